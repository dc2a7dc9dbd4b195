"""Views of a profile, offered by what holds one."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from opcount.profile import Profile
from opcount.utilization import HasFlops

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.communication import Communication
    from opcount.coverage import Coverage

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


class ProfileViews(HasFlops):
    """An object whose ``profile`` is the count so far, with the views of that as its own."""

    @property
    def profile(self) -> Profile:
        """The count so far."""
        raise NotImplementedError

    @property
    def coverage(self) -> Coverage:
        """The operators by how they are explained: counted, declared free, or uncounted."""
        return self.profile.coverage

    @property
    def communication(self) -> Communication:
        """Calls and bytes of collectives, sends and receives: by group, kind, module and phase."""
        return self.profile.communication

    rated_records = delegate(Profile.rated_records)
    on = delegate(Profile.on)
    fits = delegate(Profile.fits)
    by_module = delegate(Profile.by_module)
    by_operator = delegate(Profile.by_operator)
    by_module_and_operator = delegate(Profile.by_module_and_operator)
    by_family = delegate(Profile.by_family)
    by_phase = delegate(Profile.by_phase)
    by_dtype = delegate(Profile.by_dtype)
    select = delegate(Profile.select)
    with_convention = delegate(Profile.with_convention)
    extrapolated = delegate(Profile.extrapolated)
    explain = delegate(Profile.explain)
    diff = delegate(Profile.diff)
    to_rows = delegate(Profile.to_rows)
    to_dataframe = delegate(Profile.to_dataframe)
    to_json = delegate(Profile.to_json)
    save = delegate(Profile.save)
