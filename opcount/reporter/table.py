"""The general table of a profile: modules, totals, the convention, and whether every operator was accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import printable, visible
from opcount.paths import ROOT
from opcount.records import SYMBOLIC_MACS, SYMBOLIC_SIZES
from opcount.reporter.amounts import amount, part
from opcount.reporter.circumstances import circumstances
from opcount.reporter.columns import plain
from opcount.reporter.communication import communication_lines
from opcount.reporter.memory import memory_lines
from opcount.reporter.module_columns import columns_of
from opcount.reporter.numbers import si
from opcount.reporter.outline import outline
from opcount.reporter.sampling_lines import facts, heading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opcount.profile import Profile
    from opcount.roofline import Roofline

_EXPRESSION = 200


def render(
    profile: Profile,
    depth: int | None = 3,
    *,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
    columns: Sequence[str] | None = None,
    roofline: Roofline | None = None,
) -> str:
    """Return the profile as text: a table of modules, then the totals.

    Args:
        profile: What to print.
        depth: Modules below this depth are left out; the root is at 0. None: none are.
        fold: Whether equal modules with consecutive numbers share a line, ``0-31 x32``, that shows their sum.
        sort: Children in descending order of this number, in place of the model's order.
        modules: A glob: only modules whose path matches, and their parents.
        columns: Names among `opcount.reporter.module_columns.COLUMNS`; None: those that have something to say.
        roofline: The same count on a device, whose times are shown, too.

    Example:
        >>> from opcount.profile import Profile
        >>> print(render(Profile()).splitlines()[-1])
        coverage: nothing ran: no operator was seen
    """
    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules, columns=columns)
    shown = columns_of(profile, lines, columns, roofline)
    rows = [["  " * line.level + line.name, *(column.cell(line) for column in shown)] for line in lines]
    headers = ["module", *(column.header for column in shown)]
    left = [True, *(not column.is_number for column in shown)]
    return "\n".join([*plain(headers, rows, left), "", *closing_lines(profile, roofline)])


def _symbolic(profile: Profile) -> Iterator[str]:
    """Yield the values that were taken for symbolic sizes, and the MACs of the whole count as an expression."""
    sizes = profile.provenance.get(SYMBOLIC_SIZES)
    if sizes is not None:
        known = profile.provenance.get(SYMBOLIC_MACS, "")
        macs = known if len(known) <= _EXPRESSION else f"{known[: _EXPRESSION - 3]}..."
        yield visible(f"symbolic sizes: {sizes}; all MACs: {macs}")


def _frozen(profile: Profile) -> str:
    """Return how many of the parameters no gradient is computed for; a stored profile may not know it."""
    root = profile.modules.get(ROOT)
    frozen = root.params - root.trainable if root is not None and root.param_bytes else 0
    return f" ({si(frozen)} frozen)" if frozen else ""


def closing_lines(profile: Profile, roofline: Roofline | None = None) -> Iterator[str]:
    """Yield the totals, the steps of a loop, the phases, what was counted, the convention and the coverage.

    The lines of a roofline follow, if there is one.
    """
    total = profile.total
    rest = [(total.activations, "activations"), (profile.params, f"parameters{_frozen(profile)}")]
    numbers = [amount(total, profile.convention), *(f"{si(count)} {noun}" for count, noun in rest if count)]
    yield f"{heading(profile)}: {', '.join(numbers)}"
    yield from facts(profile)
    yield from _symbolic(profile)
    phases = profile.by_phase()
    if len(phases) > 1:
        in_macs = total.flops == total.macs
        parts = (f"{printable(phase)} {part(numbers, in_macs=in_macs)}" for phase, numbers in phases.items())
        yield f"phases{'' if in_macs else f' under {visible(profile.convention.name)}'}: {', '.join(parts)}"
    yield from memory_lines(profile)
    yield from communication_lines(profile)
    yield from circumstances(profile)
    yield f"convention: {visible(profile.convention.name)} ({visible(profile.convention.summary)})"
    yield f"coverage: {profile.coverage.verdict()}"
    if roofline is not None:
        yield from roofline.lines()
