"""The families whose operators move other bytes than the rule from the schema says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from opcount.formulas.binding import packed

if TYPE_CHECKING:
    from opcount._torch.dispatch import OpOverload

Traffic = Callable[..., "tuple[int, int]"]
"""``traffic(out, args, kwargs) -> (bytes read, bytes written)``: a pure function of one call of the operator.

Arguments come as they are, since to pass them on one by one takes longer than to look at them.
"""

F = TypeVar("F", bound=Callable[..., Any])

_FAMILIES: dict[str, Traffic] = {}


def traffic(*targets: str) -> Callable[[F], F]:
    """Register what operators read and write, by the names of overloads or packets; an in-place one has its own."""

    def register(function: F) -> F:
        _FAMILIES.update(dict.fromkeys(targets, function))
        return function

    return register


def family_traffic(func: OpOverload) -> Traffic | None:
    """Return the function of a family, for calls of the overload."""
    name = str(func)
    found = _FAMILIES.get(name) or _FAMILIES.get(name.rpartition(".")[0])
    return None if found is None else packed(found, func)
