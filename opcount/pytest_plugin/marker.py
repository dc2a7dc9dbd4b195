"""``@pytest.mark.flop_budget``: read from a test, and summed over a class, a module or a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from opcount.budget import Budget
from opcount.errors import BudgetError
from opcount.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = "flop_budget"
SCOPES: dict[str, type[Any]] = {
    "function": pytest.Item,
    "class": pytest.Class,
    "module": pytest.Module,
    "session": pytest.Session,
}
"""Scopes of a budget, and the node whose tests share it."""

_MARKED = pytest.StashKey["list[Marker]"]()


class Marker(NamedTuple):
    """One marker.

    Attributes:
        budget: Its limits.
        scope: The tests that share the budget: a key of `SCOPES`.
        model: A model, or the name of the fixture that makes it.
        name: Its name in a failure, after the test's.
        text: Its identity among markers.
    """

    budget: Budget
    scope: str
    model: Any
    name: str
    text: str

    def find_model(self, item: pytest.Item, get: Callable[[str], Any]) -> Any:
        """Return the model that gives modules their paths; None if the marker names none. The counter checks it."""
        if not isinstance(self.model, str):
            return self.model
        names = getattr(item, "fixturenames", [])
        if self.model not in names:
            raise BudgetError(
                f"{item.name}: expected a model, or the name of a fixture of the test, got {self.model!r} of type str. "
                f"The test's fixtures are {', '.join(sorted(names)) or 'none'}."
            )
        return get(self.model)


def read_markers(item: pytest.Item) -> list[Marker]:
    """Return what the markers of a test say, those of its class and module included.

    Raises:
        BudgetError: One of them cannot be read.
    """
    if _MARKED not in item.stash:
        item.stash[_MARKED] = [_read(mark, item) for mark in item.iter_markers(MARKER)]
    return item.stash[_MARKED]


def _read(mark: pytest.Mark, item: pytest.Item) -> Marker:
    options = dict(mark.kwargs)
    who = f"{item.name}: @pytest.mark.{MARKER}"
    scope = options.pop("scope", "function")
    if scope not in SCOPES:
        raise BudgetError(
            f"{who}: expected a scope out of {', '.join(SCOPES)}, got {scope!r} of type {type(scope).__name__}. "
            f"For a part of the model pass modules={{...}}."
        )
    if scope != "function" and _is_scattered(item.config):
        raise BudgetError(
            f"{who}: expected the tests of the scope {scope!r} in one process, got xdist with "
            f"--dist={_distribution(item.config)}. Pass --dist=loadscope."
        )
    model, name = options.pop("model", None), options.pop("name", "")
    budget = Budget.of(*mark.args, **options, who=who)
    if scope != "function" and any(limit.bound != "max" or limit.modules is not None for limit in budget.limits):
        raise BudgetError(
            f"{who}: expected upper limits of the whole count for the scope {scope!r}, got {mark.args!r} and "
            f"{options!r}. A sum of several tests is checked after each: give other limits to each test."
        )
    return Marker(budget, scope, model, name, repr(mark))


def _distribution(config: pytest.Config) -> str:
    return str(getattr(config, "workerinput", {}).get("opcount_dist", "no"))


def _is_scattered(config: pytest.Config) -> bool:
    return _distribution(config) not in ("no", "loadscope", "loadfile")


class SharedCounts:
    """Counts so far of the tests that share a budget."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[str, str], dict[str, Profile]] = {}

    def add(self, item: pytest.Item, marker: Marker, profile: Profile) -> tuple[str, Profile]:
        """Add a test's count, in place of an earlier run of it; return who shares the budget, and the sum."""
        if marker.scope == "function":
            return ", ".join(filter(None, (item.name, marker.name))), profile
        node = item.getparent(SCOPES[marker.scope])
        if node is None:
            raise BudgetError(
                f"{item.name}: @pytest.mark.{MARKER}: expected a test of a {marker.scope}, got one without. "
                f"Leave scope={marker.scope!r} out."
            )
        shared = self._profiles.setdefault((node.nodeid, marker.text), {})
        shared[item.nodeid] = profile
        names = f"{marker.scope} {node.name}".rstrip(), marker.name, f"up to {item.name}"
        return ", ".join(filter(None, names)), sum(shared.values(), Profile())
