"""Collectives: which group a call is for, and which module; a module whose parameters are sent is charged for it."""

from __future__ import annotations

from dataclasses import replace
from sys import _getframe
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import schema_of
from opcount._torch.distributed import (
    GroupFacts,
    find_group,
    group_facts,
    group_name,
    mesh_dimension,
    parts_sent,
    process_group,
)
from opcount.formulas.collective import kind_of
from opcount.interceptor.plan import Occasion, handler
from opcount.scope import BACKWARD
from opcount.scope.engine import RUN_BACKWARD

if TYPE_CHECKING:
    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.places import Located
    from opcount.interceptor.plan import Mode, Plan

_NAMES = ("process_group", "group_name")
"""Arguments by which operators are given a group."""

_OLD_NAMES = ("tag", "ranks", "group_size")
"""The same of ``c10d_functional``. Up to PyTorch 2.2."""

_ENGINE = 2
"""Python frames from the handler up to the code that called the operator: autograd's engine, if that is C++."""


class Groups:
    """Names of the process groups of one count.

    A group is named by the dimension of the device mesh that it is of, else as its maker calls it. A mesh may be made
    later than the first collective: until one is found, it is looked for at the calls 1, 2, 4, 8, ... of a group.

    Attributes:
        ranks: The global ranks of each group, by its name in reports.
    """

    def __init__(self) -> None:
        self.ranks: dict[str, tuple[int, ...]] = {}
        self._names: dict[GroupFacts, str] = {}
        self._calls: dict[GroupFacts, int] = {}
        self._facts: dict[tuple[str, int], GroupFacts] = {}

    def name(self, group: Any) -> str:
        """Return the name of a process group."""
        key = group_name(group), group.size()
        facts = self._facts.get(key)
        if facts is None:
            facts = self._facts[key] = group_facts(group)
        name = self._names.get(facts)
        if name is None:
            calls = self._calls[facts] = self._calls.get(facts, 0) + 1
            if calls & (calls - 1):
                return self._unique(facts.description or facts.name, facts)
            name = mesh_dimension(group, facts.description)
            if not name:
                return self._unique(facts.description or facts.name, facts)
            name = self._names[facts] = self._unique(name, facts)
        return name

    def _unique(self, name: str, facts: GroupFacts) -> str:
        """Return a name that no other group has."""
        number = 1
        unique = name
        while self.ranks.setdefault(unique, facts.ranks) != facts.ranks:
            number += 1
            unique = f"{name} ({number})"
        return unique


class CollectiveHandler:
    """Runs the collectives of one operator, and charges them to the module whose parameters they are for.

    Args:
        func: The operator.
        groups: Names of the groups.
    """

    def __init__(self, func: OpOverload, groups: Groups) -> None:
        self._groups = groups
        names = [argument.name for argument in schema_of(func).arguments]
        self._place = next(((names.index(name), name) for name in _NAMES if name in names), None)
        self._old = [names.index(name) for name in _OLD_NAMES] if set(_OLD_NAMES) <= set(names) else []
        self._kind = kind_of(str(func))
        self._writes_arguments = func.namespace == "c10d"
        self._plans: dict[Occasion, Plan] = {}

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call."""
        place, issued = place_of_owner(mode, mode.scope.locate(), by_engine=_getframe(_ENGINE).f_code is RUN_BACKWARD)
        own = self._plan(plan, args, kwargs, issued)
        out = func(*args, **kwargs) if plan.func is None else plan.run(*args, **kwargs)
        mode.charge_in(place, own, None if self._writes_arguments else out, args, kwargs)
        return out

    def plan_of_finished(self, plan: Plan, _out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        """Return the plan of a call that has run already."""
        return self._plan(plan, args, kwargs, None)

    def _plan(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any], issued: str | None) -> Plan:
        group = self._group(args, kwargs)
        name, ranks = ("", 0) if group is None else (self._groups.name(group), group.size())
        occasion = Occasion(self._kind, name, ranks, issued)
        own = self._plans.get(occasion)
        if own is None:
            own = self._plans[occasion] = replace(plan, handle=None, occasion=occasion)
        return own

    def _group(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._old:
            return find_group(*(args[place] for place in self._old))
        if self._place is None:
            return None
        place, name = self._place
        return process_group(args[place] if place < len(args) else kwargs.get(name))


def place_of_owner(mode: Mode, place: Located, *, by_engine: bool) -> tuple[Located, str | None]:
    """Return where a call of a wrapper is charged, and the path of the module that ran it if that is another.

    Args:
        mode: Sees the call.
        place: Where it runs.
        by_engine: Whether C++ calls it from a backward: a bucket of DDP holds gradients of any modules.
    """
    frame, phase = place
    modules, parameters = parts_sent()
    owner = mode.scope.frame_of_owner(frame, modules, parameters)
    if owner is None and by_engine and phase == BACKWARD:
        owner = mode.scope.frame_of_reducer(frame)
    return (place, None) if owner is None or owner is frame else ((owner, phase), frame.path)


@handler
def MOVE(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: N802
    """Run a copy from or to the buffer of a collective, and charge it to the same module."""
    del func
    place, _ = place_of_owner(mode, mode.scope.locate(), by_engine=False)
    out = plan.run(*args, **kwargs)
    mode.charge_in(place, plan, out, args, kwargs)
    return out
