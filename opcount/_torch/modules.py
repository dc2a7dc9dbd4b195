"""The tables of a module, which hold what the public iterators leave out: shared and absent entries."""

from __future__ import annotations

from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import needed
from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

with needed():
    from torch.nn.utils import _named_member_accessor as named_member_accessor

parameters_of: Callable[[nn.Module], dict[str, Any]] = attrgetter("_parameters")
buffers_of: Callable[[nn.Module], dict[str, Tensor | None]] = attrgetter("_buffers")
transient_buffers_of: Callable[[nn.Module], set[str]] = attrgetter("_non_persistent_buffers_set")
"""Returns the names of the buffers that ``state_dict`` leaves out."""
submodules_of: Callable[[nn.Module], dict[str, nn.Module | None]] = attrgetter("_modules")
forward_hooks_of: Callable[[nn.Module], dict[int, Any]] = attrgetter("_forward_hooks")
class_name_of: Callable[[nn.Module], str] = methodcaller("_get_name")
"""Returns what ``repr`` calls the class of a module."""


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return a module and its descendants once each, as ``Module.modules`` does, in a third of its time."""
    found: dict[int, nn.Module] = {}
    pending: list[nn.Module | None] = [model]
    while pending:
        module = pending.pop()
        if module is not None and identity(module) not in found:
            found[identity(module)] = module
            children = submodules_of(module)
            if children:
                pending.extend(reversed(children.values()))
    return list(found.values())
