"""Changes that no dispatch mode sees: remember what they change before they happen, or refuse them.

A program casts a module, assigns to ``.data`` or ``.grad``, replaces a submodule, or reads memory. A dispatch mode sees
none of that, so these functions are monkeypatched during a dry run, and ask the guard of the current thread's dry run.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn.parameter import is_lazy

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled, fake_mode
from opcount._torch.fake import FakeTensor
from opcount._torch.functorch import is_wrapped
from opcount._torch.modules import modules_of
from opcount.dryrun.fakes import CPU, PLAIN
from opcount.dryrun.tensors import DryTensor, wraps_fakes
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opcount.dryrun.computing import Computing
    from opcount.dryrun.leaves import Leaves
    from opcount.dryrun.refusals import Refusals
    from opcount.dryrun.snapshot import Snapshot
    from opcount.dryrun.twins import Twins

SHARE = "share_memory_"

_OF_DATA = {"_fake_device", "fake_device", "known"}
"""Attributes of a fake tensor that belong to its memory."""


class Guard(NamedTuple):
    """Protects real tensors and modules in one dry run.

    Args:
        snapshot: Remembers modules.
        leaves: Remembers tensors.
        twins: Fake tensors in place of real ones.
        computing: Knows values.
        refusals: Refuses what cannot be undone.
        enter: Prepares modules.
        born: Modules that were made inside, by ``id``; they have no state from before.
        copied: Modules that were copied inside; they may share their tables with the original.
    """

    snapshot: Snapshot
    leaves: Leaves
    twins: Twins
    computing: Computing
    refusals: Refusals
    enter: Callable[[Iterable[nn.Module]], None]
    born: dict[int, weakref.ref[nn.Module]]
    copied: dict[int, weakref.ref[nn.Module]]

    def module(self, module: nn.Module) -> None:
        """Remember a module and its descendants before the module changes."""
        if self.snapshot.has(module) or isinstance(module, torch.jit.ScriptModule):
            return
        if "_modules" not in vars(module):
            self.copied[identity(module)] = weakref.ref(module)
        elif not was_made(self.born, module):
            self.enter(modules_of(module))

    def leaf(self, tensor: Tensor, change: str, *, data: bool = False) -> None:
        """Remember a real tensor before it changes.

        Args:
            tensor: Any tensor.
            change: Name of the attribute or method that changes it.
            data: Whether the tensor gets other memory.
        """
        if isinstance(tensor, FakeTensor) or is_wrapped(tensor) or wraps_fakes(tensor):
            return
        if not is_lazy(tensor) and self.computing.values.is_ours(tensor):
            return
        self.leaves.keep(tensor)
        if data:
            self.twins.forget(tensor)
            if not self.leaves.keep_data(tensor) and not tensor.is_meta:
                raise self.refusals.refuse(f"Tensor.{change}", "gives a tensor other data that cannot be put back")

    def made(self, tensor: Tensor) -> None:
        """Note that a tensor from before got memory with unknown values."""
        self.leaves.note_plain(tensor)
        self.computing.forget(tensor)

    def applied(self, parameter: Tensor, made: Tensor) -> Tensor:
        """Return real data for a real parameter that is cast, so that it stays the object that optimizers hold."""
        if type(made) is not DryTensor or isinstance(parameter, FakeTensor) or not isinstance(parameter, nn.Parameter):
            return made
        if parameter.device != CPU or made.device != CPU or type(parameter) not in PLAIN:
            return made
        value = self.computing.known(made)
        with dispatch_disabled(), autograd_disabled():
            data = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype)
            if value is not None:
                data.copy_(value)
        if value is None:
            self.computing.forget(data)
        return data

    def real(self, tensor: Tensor, asked: str) -> tuple[Tensor, bool]:
        """Return a tensor with the values of another, and whether it is memory from outside; refuse unknown values."""
        if isinstance(tensor, FakeTensor) or tensor.is_meta:
            return tensor, False
        return self.computing.real_value_of(tensor, asked)

    def readable(self, data: Any, asked: str, *, by_memory: bool = False) -> Any:
        """Replace tensors by their values where PyTorch reads memory, and refuse unknown ones that were written to.

        Args:
            data: What a function is given.
            asked: The function.
            by_memory: Whether it reads the memory of a fake tensor, too, as all do in lists.
        """
        if isinstance(data, DryTensor):
            value = self.computing.known(data) if by_memory else None
            return data if value is None else value
        if isinstance(data, Tensor):
            if isinstance(data, FakeTensor) or data.is_meta or not self.computing.values.is_written(data):
                return data
            return self.computing.real_value_of(data, asked)[0]
        if type(data) in (list, tuple) and any(isinstance(item, (Tensor, list, tuple)) for item in data):
            return type(data)([self.readable(item, asked, by_memory=True) for item in data])
        return data

    def memory(self, tensor: Tensor) -> None:
        """Refuse a write to a real tensor that bypasses the dispatcher."""
        if not isinstance(tensor, FakeTensor) and not tensor.is_meta and not self.computing.values.is_ours(tensor):
            raise self.refusals.refuse("Tensor.apply_", "writes to a tensor of outside of the dry run")

    def detach(self, tensor: Tensor) -> None:
        """Remember a real tensor before it is detached; refuse one that could not be attached again."""
        self.leaf(tensor, "detach_")
        inside = isinstance(tensor, FakeTensor) or wraps_fakes(tensor) or self.computing.values.is_ours(tensor)
        if not (inside or tensor.is_leaf):
            raise self.refusals.refuse("Tensor.detach_", "takes a tensor of outside of the dry run out of its graph")

    def storage(self, storage: UntypedStorage, change: str) -> bool:
        """Return whether real memory was made inside; refuse other, except to share what is shared already."""
        if storage.device.type == "meta" or (change == SHARE and storage.is_shared()):
            return False
        if not self.computing.values.is_our_memory(storage):
            raise self.refusals.refuse(f"UntypedStorage.{change}", "changes memory of outside of the dry run")
        return True

    def made_storage(self, storage: UntypedStorage) -> None:
        """Note that the program, or a function of PyTorch, has made a storage."""
        if storage.device.type != "meta":
            self.computing.values.adopt_memory(storage)

    def swap(self, first: Tensor, second: Tensor, *, casts: bool) -> bool:
        """Refuse to swap two tensors unless both are fake.

        Args:
            first: Any.
            second: Any.
            casts: Whether a module is cast: a real parameter would get other memory, which is always possible.

        Returns:
            Whether that is done, and there is nothing left to swap.
        """
        if wraps_fakes(first) and wraps_fakes(second):
            return False
        if not (isinstance(first, FakeTensor) and isinstance(second, FakeTensor)):
            raise self.refusals.refuse("torch.utils.swap_tensors", "exchanges a tensor of outside of the dry run")
        if casts:
            _give_data(first, second)
        return casts


def _give_data(tensor: Tensor, source: Tensor) -> None:
    """Give a fake tensor the memory of another one, as ``Module._apply`` does to real parameters."""
    tensor.data = source.detach()
    vars(tensor).update({name: value for name, value in vars(source).items() if name in _OF_DATA})


def was_made(modules: dict[int, weakref.ref[nn.Module]], module: nn.Module) -> bool:
    """Return whether a module is one of those that were made inside."""
    made = modules.get(identity(module))
    return made is not None and made() is module


def active_guard() -> Guard | None:
    """Return the guard of this thread's dry run."""
    return getattr(fake_mode(), "guard", None)


def ask_before(ask: Callable[..., object]) -> Callable[[Any], Any]:
    """Return a decorator for functions: ``ask`` gets the guard and the arguments first.

    Args:
        ask: Called in a dry run only; may refuse.
    """

    def patch(original: Any) -> Any:
        @functools.wraps(original)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            guard = active_guard()
            if guard is not None:
                ask(guard, *args, **kwargs)
            return original(*args, **kwargs)

        return guarded

    return patch
