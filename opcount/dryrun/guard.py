"""What no dispatch mode sees a program do to real tensors and modules: noted before it is done, or refused.

A program casts a module, assigns to ``.data`` or ``.grad``, exchanges a submodule, or reads memory: nothing of that
reaches a dispatch mode. So these ways are patched for the time of a dry run, and ask the one that this thread is in.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from opcount._torch.dispatch import register_script_builtin, script_builtin
from opcount._torch.fake import FakeTensor
from opcount._torch.functorch import is_wrapped
from opcount._torch.modules import named_member_accessor
from opcount.dryrun.computing import for_real
from opcount.dryrun.fakes import CPU, PLAIN, active_mode
from opcount.dryrun.guard_objects import OF_OBJECTS
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opcount.dryrun.computing import Computing
    from opcount.dryrun.leaves import Leaves
    from opcount.dryrun.refusals import Refusals
    from opcount.dryrun.snapshot import Snapshot
    from opcount.dryrun.twins import Twins


class Guard(NamedTuple):
    """Keeps what is real from being changed, in one dry run.

    Args:
        snapshot: Remembers modules.
        leaves: Remember tensors.
        twins: Stand for tensors.
        computing: Knows values.
        refusals: Refuse what cannot be undone.
        enter: Prepares modules.
        born: The modules that were made inside, by ``id``: their state is nobody's from before.
        copied: Those that were copied inside: they may share their tables with what they are copies of.
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
        """Remember a module that is about to be changed, and those inside it."""
        if self.snapshot.has(module) or isinstance(module, torch.jit.ScriptModule):
            return
        if "_modules" not in vars(module):
            self.copied[id(module)] = weakref.ref(module)
        elif not was_made(self.born, module):
            self.enter(module.modules())

    def leaf(self, tensor: Tensor, change: str, *, data: bool = False) -> None:
        """Remember a real tensor that is about to be changed.

        Args:
            tensor: Any.
            change: Its name.
            data: Whether the tensor gets another memory.
        """
        if isinstance(tensor, FakeTensor) or is_wrapped(tensor):
            return
        if not is_lazy(tensor) and self.computing.is_ours(tensor):
            return
        self.leaves.keep(tensor)
        if data:
            self.twins.forget(tensor)
            if not self.leaves.keep_data(tensor) and not tensor.is_meta:
                raise self.refusals.refuse(f"Tensor.{change}", "gives a tensor other data that cannot be put back")

    def made(self, tensor: Tensor) -> None:
        """Know that a tensor from before has got a memory of unknown values."""
        self.leaves.note_plain(tensor)
        self.computing.forget(tensor)

    def applied(self, parameter: Tensor, made: Tensor) -> Tensor:
        """Return what becomes the data of a real parameter that is cast: then it stays what optimizers know."""
        if type(made) is not DryTensor or isinstance(parameter, FakeTensor) or not isinstance(parameter, nn.Parameter):
            return made
        if parameter.device != CPU or made.device != CPU or type(parameter) not in PLAIN:
            return made
        value = self.computing.known(made)
        with for_real():
            data = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype)
            if value is not None:
                data.copy_(value)
        if value is None:
            self.computing.forget(data)
        return data

    def real(self, tensor: Tensor, asked: str) -> tuple[Tensor, bool]:
        """Return what holds the values of a tensor, and whether it is the tensor of before; refuse if nothing does."""
        if isinstance(tensor, FakeTensor) or tensor.is_meta:
            return tensor, False
        return self.computing.real_value_of(tensor, asked)

    def readable(self, data: Any, asked: str) -> Any:
        """Return data with real tensors in place of those that were written to; refuse if one has no value."""
        if isinstance(data, Tensor):
            if isinstance(data, FakeTensor) or data.is_meta or not self.computing.is_written(data):
                return data
            return self.computing.real_value_of(data, asked)[0]
        if type(data) in (list, tuple) and any(isinstance(item, (Tensor, list, tuple)) for item in data):
            return type(data)([self.readable(item, asked) for item in data])
        return data

    def memory(self, tensor: Tensor) -> None:
        """Refuse to write to a real tensor past every dispatcher."""
        if not isinstance(tensor, FakeTensor) and not tensor.is_meta and not self.computing.is_ours(tensor):
            raise self.refusals.refuse("Tensor.apply_", "writes to a tensor of outside of the dry run")

    def detach(self, tensor: Tensor) -> None:
        """Remember a real tensor that leaves the graph; refuse where it could not come back."""
        self.leaf(tensor, "detach_")
        outside = not isinstance(tensor, FakeTensor) and not self.computing.is_ours(tensor)
        if outside and not tensor.is_leaf:
            raise self.refusals.refuse("Tensor.detach_", "takes a tensor of outside of the dry run out of its graph")

    def storage(self, storage: UntypedStorage, change: str) -> None:
        """Refuse to change memory that is real; what is shared already stays as it is."""
        if change == _SHARE and storage.is_shared():
            return
        if storage.device.type != "meta" and not self.computing.is_our_memory(storage):
            raise self.refusals.refuse(f"UntypedStorage.{change}", "changes memory of outside of the dry run")

    def swap(self, first: Tensor, second: Tensor) -> None:
        """Refuse to exchange what two tensors are, unless both are of the dry run."""
        if not (isinstance(first, FakeTensor) and isinstance(second, FakeTensor)):
            raise self.refusals.refuse("torch.utils.swap_tensors", "exchanges a tensor of outside of the dry run")


def was_made(modules: dict[int, weakref.ref[nn.Module]], module: nn.Module) -> bool:
    """Tell whether a module is among those that were made inside."""
    made = modules.get(id(module))
    return made is not None and made() is module


_SHARE = "share_memory_"
_OF_STORAGES = ("resize_", "__setitem__", _SHARE)
"""Methods that change memory."""


def active_guard() -> Guard | None:
    """Return the guard of the dry run that this thread is in."""
    return getattr(active_mode(), "guard", None)


class _Attribute:
    """An attribute of tensors that is written in C: the tensor is noted before."""

    __slots__ = ("_data", "_get", "_name", "_original")

    def __init__(self, name: str, *, data: bool = False) -> None:
        self._name = name
        self._data = data
        self._original: Any = getattr(Tensor, name)
        self._get = self._original.__get__

    def __get__(self, tensor: Any, _owner: type | None = None) -> Any:
        return self._original if tensor is None else self._get(tensor)

    def __set__(self, tensor: Tensor, value: object) -> None:
        self._note(tensor)
        self._original.__set__(tensor, value)

    def __delete__(self, tensor: Tensor) -> None:
        self._note(tensor)
        self._original.__delete__(tensor)

    def _note(self, tensor: Tensor) -> None:
        guard = active_guard()
        if guard is not None:
            guard.leaf(tensor, self._name, data=self._data)


def _changing_tensor(owner: Any, name: str) -> Any:
    original = getattr(owner, name)

    @functools.wraps(original)
    def change(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.leaf(tensor, name)
        return original(tensor, *args, **kwargs)

    return change


def _asking(ask: Callable[[Guard, Tensor], object], original: Any) -> Any:
    """Patch a function of a tensor so that the guard is asked before."""

    @functools.wraps(original)
    def change(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            ask(guard, tensor)
        return original(tensor, *args, **kwargs)

    return change


def _changing_module(original: Any) -> Any:
    """Return a method that changes the module that it is of."""

    @functools.wraps(original)
    def change(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.module(module)
        return original(module, *args, **kwargs)

    return change


def _applying(original: Any) -> Any:
    """Return the method of modules that casts and moves what they have."""

    @functools.wraps(original)
    def apply(module: nn.Module, fn: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.module(module)
            if not isinstance(fn, _Applied):
                fn = _Applied(guard, fn)
        return original(module, fn, *args, **kwargs)

    return apply


class _Applied(NamedTuple):
    """A function of parameters, in a dry run."""

    guard: Guard
    fn: Callable[[Tensor], Tensor]

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.guard.applied(tensor, self.fn(tensor))


def _changing_hooked_module(original: Any) -> Any:
    """Return a method of what hooks modules that changes the first module that it is given."""

    @functools.wraps(original)
    def change(*args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            module = next((v for v in (*args, *kwargs.values()) if isinstance(v, nn.Module)), None)
            if module is not None:
                guard.module(module)
        return original(*args, **kwargs)

    return change


def _making_module(original: Any) -> Any:
    @functools.wraps(original)
    def make(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        guard = active_guard()
        if guard is not None:
            guard.born[id(module)] = weakref.ref(module)
        original(module, *args, **kwargs)

    return make


def _reading(name: str, *, shared: bool = False) -> Any:
    """Patch a method that reads the memory of a tensor.

    Args:
        name: Of the method.
        shared: Whether the program may write to what is returned: then it gets a copy.
    """
    original = getattr(Tensor, name)

    @functools.wraps(original)
    def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None:
            return original(tensor, *args, **kwargs)
        value, outside = guard.real(tensor, name)
        out = original(value, *args, **kwargs)
        return out.copy() if shared and outside else out

    return read


def _reading_arguments(owner: Any, name: str) -> Any:
    """Patch a function that reads the memory of tensors among its arguments where no dispatch mode sees it."""
    original = getattr(owner, name)
    first = 1 if owner is Tensor or name == "tensor_split" else 0  # of the tensor itself only the shape is asked

    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None:
            return original(*args, **kwargs)
        args = (*args[:first], *(guard.readable(value, name) for value in args[first:]))
        return original(*args, **{key: guard.readable(value, name) for key, value in kwargs.items()})

    scripted = script_builtin(original)
    if scripted is not None:
        register_script_builtin(make, scripted)
    return make


def _capsule(original: Any) -> Any:
    """Patch a function that hands the memory of a tensor to another library, which may write to it: to a copy."""

    @functools.wraps(original)
    def export(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            value, outside = guard.real(tensor, "__dlpack__")
            tensor = _copy_of(value) if outside else value
        return original(tensor, *args, **kwargs)

    return export


def _copy_of(tensor: Tensor) -> Tensor:
    with for_real():
        return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _copying(original: Any) -> Any:
    """Patch how tensors are copied: they copy memory, which may not be what the program has written."""

    @functools.wraps(original)
    def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Any:
        guard = active_guard()
        if guard is None or isinstance(tensor, FakeTensor) or not guard.computing.is_written(tensor):
            return original(tensor, memo)
        return DryTensor.__deepcopy__(tensor, memo)  # type: ignore[arg-type]

    return deepcopy


def _showing(original: Any) -> Any:
    @functools.wraps(original)
    def show(tensor: Tensor, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None or isinstance(tensor, FakeTensor) or tensor.is_meta:
            return original(tensor, **kwargs)
        value = guard.computing.known(tensor)
        if value is None:
            return f"{type(tensor).__name__}(..., size={tuple(tensor.shape)})"
        return original(value if guard.computing.is_written(tensor) else tensor, **kwargs)

    return show


def _changing_storage(name: str) -> Any:
    original = getattr(UntypedStorage, name)

    def change(storage: UntypedStorage, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.storage(storage, name)
        return original(storage, *args, **kwargs)

    return change


def _swapping(original: Any) -> Any:
    @functools.wraps(original)
    def swap(first: Tensor, second: Tensor) -> None:
        guard = active_guard()
        if guard is not None:
            guard.swap(first, second)
        original(first, second)

    return swap


_OF_MODULES = (
    "__setattr__", "__delattr__", "add_module", "register_buffer", "register_parameter",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook", "__setstate__",
)  # fmt: skip
"""Methods that change the module itself, not by one of the others."""

_OF_TENSORS = ("requires_grad_", "register_hook", "register_post_accumulate_grad_hook")
"""Methods that change the tensor itself."""

_HOOKS: tuple[Any, ...] = (prune.BasePruningMethod, WeightNorm, SpectralNorm)
"""What takes parameters out of a module's tables, without a method of the module."""

_OF_TORCH: tuple[tuple[Any, str, Any], ...] = (
    (torch, "to_dlpack", _capsule),
    (torch.utils.dlpack, "to_dlpack", _capsule),
    (torch.utils, "swap_tensors", _swapping),
)
"""Functions that not all versions have."""

_READING_ARGUMENTS: tuple[tuple[Any, str], ...] = (
    (torch, "tensor"), (torch, "as_tensor"), (torch, "asarray"), (torch, "tensor_split"),
    (Tensor, "new_tensor"), (Tensor, "tensor_split"),
)  # fmt: skip

GUARDED = Patches(
    {
        (Tensor, "data"): _Attribute("data", data=True),
        (Tensor, "grad"): _Attribute("grad"),
        (Tensor, "requires_grad"): _Attribute("requires_grad"),
        **{(Tensor, name): _changing_tensor(Tensor, name) for name in _OF_TENSORS},
        **{(Tensor, name): _asking(Guard.memory, getattr(Tensor, name)) for name in ("apply_", "map_", "map2_")},
        **{(owner, "detach_"): _asking(Guard.detach, owner.detach_) for owner in (Tensor, torch)},
        **{(Tensor, name): _reading(name) for name in ("tolist", "data_ptr", "__reduce_ex__")},
        (Tensor, "__dlpack__"): _capsule(Tensor.__dlpack__),
        (Tensor, "numpy"): _reading("numpy", shared=True),
        **{(owner, name): _reading_arguments(owner, name) for owner, name in _READING_ARGUMENTS},
        (Tensor, "__repr__"): _showing(Tensor.__repr__),
        (Tensor, "__deepcopy__"): _copying(Tensor.__deepcopy__),
        **{(UntypedStorage, name): _changing_storage(name) for name in _OF_STORAGES},
        **{(owner, name): patch(vars(owner)[name]) for owner, name, patch in _OF_TORCH if name in vars(owner)},
    },
    around={
        (nn.Module, "__init__"): _making_module,
        (nn.Module, "_apply"): _applying,
        **{(nn.Module, name): _changing_module for name in _OF_MODULES},
        **{(hook, name): _changing_hooked_module for hook in _HOOKS for name in ("apply", "remove")},
        **{(named_member_accessor, name): _changing_hooked_module for name in ("swap_tensor", "set_tensor")},
        **OF_OBJECTS,
    },
)
"""In place for as long as anybody is in a dry run."""
