"""Fake tensors that stand for real ones, and modules that hold them for the time of a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from opcount._torch.fake import FakeTensor
from opcount._torch.functorch import is_wrapped
from opcount._torch.modules import buffers_of, parameters_of
from opcount.dryrun.fakes import CPU, PLAIN, is_plain
from opcount.dryrun.tensors import DryTensor
from opcount.dryrun.values import VALUE
from opcount.errors import DryRunError
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.leaves import Leaves

_MAY_HOLD_TENSORS = {Tensor, nn.Parameter, getattr(nn, "Buffer", Tensor), list, dict, tuple, FakeTensor}
"""Types of attributes in which tensors are looked for."""

_NESTED = (Tensor, list, dict, tuple)

_TABLES = {"_parameters", "_buffers", "_modules"}


Entry = tuple[nn.Module, dict[str, Any], str, Tensor]
"""A module, its table of parameters or of buffers, and a name and a tensor in it."""

Replaced = tuple[tuple[dict[str, Any], str, Tensor], Tensor]
"""A table, a name, and the tensor that is there now; the tensor that was there."""


class Twins:
    """One fake tensor for each real one.

    Args:
        fakes: Make them.
        keep: Is told of each twin of a tensor that has values.

    Attributes:
        keep: See above.
    """

    def __init__(
        self, fakes: Fakes, keep: Callable[[Tensor, Tensor], None], was_made_inside: Callable[[Tensor], bool]
    ) -> None:
        self._fakes = fakes
        self.keep = keep
        self._was_made_inside = was_made_inside
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}
        self._in_place: set[int] = set()
        self._looked_into: dict[int, Any] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the twin of a tensor, made at its first use; a fake tensor of this dry run is its own."""
        if isinstance(tensor, FakeTensor) and tensor.fake_mode is self._fakes.mode:
            return tensor
        known = self._twins.get(identity(tensor))
        if known is None or known[0] is not tensor:
            known = self._twins[identity(tensor)] = (tensor, self._fakes.like(tensor))
        return known[1]

    def forget(self, tensor: Tensor) -> None:
        """Have another twin made for a tensor that gets other data."""
        self._twins.pop(identity(tensor), None)

    def in_place_of(self, tensor: Tensor) -> Tensor:
        """Return the tensor that stands in a module where this one stood."""
        return self.of(tensor) if identity(tensor) in self._in_place else tensor

    def check(self, entries: list[Entry]) -> None:
        """Refuse modules whose tensors have no data and cannot be replaced.

        Raises:
            DryRunError: One is a ScriptModule on the meta device, or a tensor there has no plain fake one.
        """
        for module, _, name, tensor in entries:
            if tensor.is_meta and not is_lazy(tensor) and (_is_script(module) or not is_plain(tensor)):
                raise DryRunError(
                    f"dry run: expected tensors that can be replaced, got {name!r} of type {type(tensor).__name__} "
                    f"on {tensor.device} in a {type(module).__name__}. Make the model on a device with data."
                )

    def enter(self, entries: list[Entry], leaves: Leaves) -> list[Replaced]:
        """Put twins of tensors that have no data into tables, and twins of integers, by which programs decide.

        Parameters that have data stay what they are: nothing in a dry run writes to real tensors, and optimizers and
        lists that the program has made know them. So do other numbers; but a list of a real tensor's values is made
        where no dispatch mode sees it, and integers in it must not be those of before.

        Args:
            entries: What to replace.
            leaves: Are told of tensors that stay and require gradients.

        Returns:
            What was replaced.
        """
        replaced: list[Replaced] = []
        for module, table, name, original in entries:
            tensor = original
            if (
                tensor.is_meta
                or (
                    not tensor.dtype.is_floating_point
                    and table is not parameters_of(module)
                    and not self._was_made_inside(tensor)
                )
                or (type(tensor) not in PLAIN and isinstance(tensor, FakeTensor))
            ) and not _is_script(module):
                table[name] = tensor = self._stand_in(tensor)
                replaced.append(((table, name, tensor), original))
            if tensor.requires_grad and (type(tensor) in PLAIN or _is_real(tensor)):
                leaves.add(tensor)
        return replaced

    def enter_attributes(self, module: nn.Module, held: dict[str, Any]) -> None:
        """Replace tensors in attributes of a module likewise.

        Args:
            module: What to prepare.
            held: Its attributes in which there may be tensors.
        """
        if _is_script(module):
            return
        for name, value in held.items():
            if name not in _TABLES and type(value) in _MAY_HOLD_TENSORS:
                replaced = self._replaced(value)
                if replaced is not value:
                    vars(module)[name] = replaced

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in PLAIN and is_lazy(tensor):
            return self._lazy(tensor) if tensor.is_meta else tensor
        if not is_plain(tensor) or is_wrapped(tensor):
            return tensor
        value = vars(tensor).get(VALUE) if _needs_twin(tensor) else tensor
        self._in_place.add(identity(tensor))
        twin = self.of(tensor)
        if value is not None:
            self.keep(twin, value)
        return twin

    def _lazy(self, tensor: Any) -> Tensor:
        """Return a tensor without a shape that gets its memory on the CPU."""
        known = self._twins.get(identity(tensor))
        if known is None or known[0] is not tensor:
            known = self._twins[identity(tensor)] = (tensor, type(tensor)(tensor.requires_grad, CPU, tensor.dtype))
            self._in_place.add(identity(tensor))
        return known[1]

    def _replaced(self, value: Any) -> Any:
        """Return an attribute with twins in it; lists and dicts are changed in place."""
        if isinstance(value, Tensor):
            swap = (
                not is_lazy(value) and is_plain(value) and (_needs_twin(value) or not isinstance(value, nn.Parameter))
            )
            return self._stand_in(value) if swap and value.is_leaf else value
        if type(value) in (list, dict):
            self._replace_in(value)
        elif type(value) is tuple and any(isinstance(item, _NESTED) for item in value):
            items = [self._replaced(item) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else tuple(items)
        return value

    def _replace_in(self, value: Any) -> None:
        """Replace what is in a list or dict, once: it may be in itself."""
        if identity(value) not in self._looked_into:
            self._looked_into[identity(value)] = value
            for key, item in enumerate(value) if type(value) is list else value.items():
                if isinstance(item, _NESTED):
                    value[key] = self._replaced(item)


def entries_of(modules: Iterable[nn.Module]) -> list[Entry]:
    """Return the parameters and buffers of modules, and where they are."""
    return [
        (module, table, name, tensor)
        for module in modules
        for table in (parameters_of(module), buffers_of(module))
        for name, tensor in table.items()
        if tensor is not None
    ]


def _is_script(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _is_real(tensor: Tensor) -> bool:
    return not (isinstance(tensor, DryTensor) or is_lazy(tensor))


def _needs_twin(tensor: Tensor) -> bool:
    """Return whether a tensor has no data, or is fake without being of this dry run."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)
