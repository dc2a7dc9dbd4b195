"""Counts of one program in a real run and in a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def assert_same_counts(make: Callable[[], nn.Module], program: Callable[[Any], object]) -> None:
    """Assert that a dry run charges what a real run does, call by call, and that this is something."""
    real, dry = (_counts(make(), program, dry_run=dry_run) for dry_run in (False, True))
    assert dry == real
    assert real


def _counts(model: nn.Module, program: Callable[[Any], object], *, dry_run: bool) -> dict[Any, Any]:
    with OpCounter(model, dry_run=dry_run) as c:
        program(model)
    priced = [r for r in c.profile.records if r.cost.macs or r.cost.arith]
    return {(r.stack, r.operator, r.phase): (r.calls, r.cost) for r in priced}
