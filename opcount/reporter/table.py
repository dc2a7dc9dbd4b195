"""The general table of a profile: modules, totals, the convention, and whether every operator was accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import printable, visible
from opcount.records import SYMBOLIC_MACS, SYMBOLIC_SIZES
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si
from opcount.reporter.outline import outline
from opcount.reporter.sampling_lines import facts, heading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.profile import Profile
    from opcount.reporter.outline import ModuleLine

HEADERS = ["module", "type", "params", "MACs", "FLOPs", "activations", "% FLOPs"]
_NOT_CALLED = "-"
_EXPRESSION = 200


def render(
    profile: Profile,
    depth: int | None = 3,
    *,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
) -> str:
    """Return the profile as text: a table of modules, then the totals.

    Args:
        profile: What to print.
        depth: Modules below this depth are left out; the root is at 0. None: none are.
        fold: Whether equal modules with consecutive numbers share a line, ``0-31 x32``, that shows their sum.
        sort: Children in descending order of this number, in place of the model's order.
        modules: A glob: only modules whose path matches, and their parents.

    Example:
        >>> from opcount.profile import Profile
        >>> print(render(Profile()).splitlines()[-1])
        coverage: nothing ran: no operator was seen
    """
    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules)
    return "\n".join([*plain(HEADERS, [cells(line, profile) for line in lines], words=2), "", *summary(profile)])


def cells(line: ModuleLine, profile: Profile) -> list[str]:
    """Return what a row shows of a module."""
    total = line.total
    numbers = [si(total.macs), si(total.flops), si(total.activations), percent(total.flops, profile.flops)]
    return [
        "  " * line.level + line.name,
        line.type,
        si(line.params) if line.type else "",
        *(numbers if line.ran else [_NOT_CALLED] * len(numbers)),
    ]


def _symbolic(profile: Profile) -> Iterator[str]:
    """Yield the values that were taken for symbolic sizes, and the MACs of the whole count as an expression."""
    sizes = profile.provenance.get(SYMBOLIC_SIZES)
    if sizes is not None:
        known = profile.provenance.get(SYMBOLIC_MACS, "")
        macs = known if len(known) <= _EXPRESSION else f"{known[: _EXPRESSION - 3]}..."
        yield visible(f"symbolic sizes: {sizes}; all MACs: {macs}")


def summary(profile: Profile) -> Iterator[str]:
    """Yield the totals, the steps of a loop, the phases, the convention and the coverage, a line each."""
    total = profile.total
    yield (
        f"{heading(profile)}: {si(total.macs, 'MAC')}, {si(total.flops, 'FLOP')}, {si(total.activations)} activations, "
        f"{si(profile.params)} parameters"
    )
    yield from facts(profile)
    yield from _symbolic(profile)
    phases = profile.by_phase()
    if len(phases) > 1:
        yield "phases: " + ", ".join(f"{printable(phase)} {si(part.flops, 'FLOP')}" for phase, part in phases.items())
    yield f"convention: {visible(profile.convention.name)} ({visible(profile.convention.summary)})"
    yield f"coverage: {profile.coverage.verdict()}"
