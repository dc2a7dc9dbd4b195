"""Methods of a profile, offered by what holds one."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.profile import Profile

P = ParamSpec("P")
R = TypeVar("R")


class HasProfile(Protocol):
    """An object whose ``profile`` is the count so far."""

    @property
    def profile(self) -> Profile:
        """The count so far."""


def delegate(method: Callable[Concatenate[Profile, P], R]) -> Callable[Concatenate[HasProfile, P], R]:
    """Return a method that calls a method of the object's profile, with the same signature and docstring."""

    @wraps(method)
    def delegated(self: HasProfile, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.profile, *args, **kwargs)

    return delegated
