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
"""What a budget may be shared by."""

_MARKED = pytest.StashKey["list[Marked]"]()


class Marked(NamedTuple):
    """One marker.

    Attributes:
        budget: What it says.
        scope: Which tests share the budget.
        model: A model, or the name of the fixture that makes it.
        name: What a failure calls it besides the test.
        text: What tells it from other markers.
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


def read_markers(item: pytest.Item) -> list[Marked]:
    """Return what the markers of a test say, those of its class and module included.

    Raises:
        BudgetError: One of them cannot be read.
    """
    if _MARKED not in item.stash:
        item.stash[_MARKED] = [_read(mark, item) for mark in item.iter_markers(MARKER)]
    return item.stash[_MARKED]


def _read(mark: pytest.Mark, item: pytest.Item) -> Marked:
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
    return Marked(budget, scope, model, name, repr(mark))


def _distribution(config: pytest.Config) -> str:
    return str(getattr(config, "workerinput", {}).get("opcount_dist", "no"))


def _is_scattered(config: pytest.Config) -> bool:
    return _distribution(config) not in ("no", "loadscope", "loadfile")


class Sums:
    """What the tests that share a budget have counted so far."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[str, str], dict[str, Profile]] = {}

    def add(self, item: pytest.Item, marked: Marked, profile: Profile) -> tuple[str, Profile]:
        """Add a test's count, in place of an earlier run of it; return who shares the budget, and the sum."""
        if marked.scope == "function":
            return ", ".join(filter(None, (item.name, marked.name))), profile
        node = item.getparent(SCOPES[marked.scope])
        if node is None:
            raise BudgetError(
                f"{item.name}: @pytest.mark.{MARKER}: expected a test of a {marked.scope}, got one without. "
                f"Leave scope={marked.scope!r} out."
            )
        shared = self._profiles.setdefault((node.nodeid, marked.text), {})
        shared[item.nodeid] = profile
        names = f"{marked.scope} {node.name}".rstrip(), marked.name, f"up to {item.name}"
        return ", ".join(filter(None, names)), sum(shared.values(), Profile())
