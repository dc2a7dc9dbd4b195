"""The module tree, one line a module, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.escapes import visible
from opcount.reporter.numbers import percent, si
from opcount.reporter.outline import outline
from opcount.reporter.table import closing_lines
from opcount.roofline import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opcount.profile import Profile
    from opcount.reporter.outline import ModuleLine
    from opcount.roofline import Floor, Roofline


def render(
    profile: Profile,
    depth: int | None = None,
    *,
    fold: bool = True,
    sort: str | None = None,
    modules: str | None = None,
    roofline: Roofline | None = None,
) -> str:
    """Return the profile as a tree; `opcount.reporter.table.render` explains the arguments."""
    lines = outline(profile, depth=depth, fold=fold, sort=sort, modules=modules)
    floors = roofline.by_module() if roofline is not None else {}
    shown = (f"{branch}{_text(line, profile, floors)}" for branch, line in zip(_branches(lines), lines, strict=True))
    return "\n".join([*shown, "", *closing_lines(profile, roofline)])


def _text(line: ModuleLine, profile: Profile, floors: Mapping[str, Floor]) -> str:
    name = f"{line.name} ({line.type})" if line.type else line.name
    if not line.ran:
        return f"{name}: not called"
    facts = [si(line.total.macs, "MAC")] if profile.macs else []
    if profile.flops != profile.macs:
        facts.append(f"{si(line.total.flops, 'FLOP')} under {visible(profile.convention.name)}")
    if profile.flops:
        facts.append(percent(line.total.flops, profile.flops))
    if line.params:
        facts.append(f"{si(line.params)} params")
    if floor := floors.get(line.path):
        facts.append(f"at least {duration(line.copies * floor.seconds)}{floor.bound and f' ({floor.bound}-bound)'}")
    return f"{name}: {', '.join(facts) or 'called'}"


def _branches(lines: list[ModuleLine]) -> Iterator[str]:
    """Yield what stands before each line: ``|--`` where another child of the same parent follows, else ```--``."""
    followed: list[str] = []
    open_levels: set[int] = set()
    for line in reversed(lines):
        open_levels = {level for level in open_levels if level <= line.level}
        trunk = "".join("|   " if level in open_levels else "    " for level in range(1, line.level))
        tip = ("|-- " if line.level in open_levels else "`-- ") if line.level else ""
        followed.append(trunk + tip)
        open_levels.add(line.level)
    return reversed(followed)
