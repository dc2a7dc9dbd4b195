"""Lines of a report about a sampled loop: its measured and its extrapolated numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.coverage import plural
from opcount.reporter.amounts import amount
from opcount.reporter.numbers import si

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.cost import Cost
    from opcount.profile import Profile
    from opcount.steps import Spread


def heading(profile: Profile) -> str:
    """Return the heading of the totals: ``"total"``, followed by the counted steps if only some were counted.

    Example:
        >>> from opcount.profile import Profile
        >>> heading(Profile())
        'total'
    """
    return "total" if profile.steps is None else f"total {profile.steps.verdict()}"


def facts(profile: Profile) -> Iterator[str]:
    """Yield how the counted steps differed, and what all of them come to; nothing if everything was counted."""
    steps = profile.steps
    if steps is None:
        return
    if steps.spread is not None:
        yield f"measured steps: {_each(steps.spread)}"
    if steps.interrupted:
        yield f"interrupted: {plural(steps.interrupted, 'step')}, left out of the extrapolation"
    if not steps.extrapolated:
        whole = profile.extrapolated()
        activations = f", {si(whole.activations)} activations" if whole.activations else ""
        yield f"{heading(whole)}: {amount(whole.total, whole.convention)}{activations}"
    if steps.measured == 1 < steps.total:
        yield "only the first step was measured: the others are taken to be like it"
    elif steps.error is None:
        yield "too few steps were measured to tell how far off the extrapolation may be"
    elif any(steps.error):
        yield f"standard error of the extrapolation: {_cost(steps.error)}"


def _each(spread: Spread) -> str:
    """Write what a step costs; where steps differ, the least and the most of each number, and what the first took."""
    first, least, most = map(_cost, spread)
    if spread.least[:2] == spread.most[:2]:
        return f"{first} each"
    return f"from {least} to {most}; {first} in the first"


def _cost(cost: Cost) -> str:
    return f"{si(cost.macs, 'MAC')} and {si(cost.arith)} other operations"
