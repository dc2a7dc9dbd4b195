"""The tables of communication: by group and kind, by phase and by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.communication import Volume
from opcount.coverage import plural
from opcount.escapes import printable
from opcount.paths import ROOT, by_parent, parents_first
from opcount.reporter.columns import plain
from opcount.reporter.numbers import percent, si

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.communication import Communication
    from opcount.profile import Profile

NOTHING_SENT = "nothing was communicated: no collective, send or receive ran"

_HEADERS = ["calls", "payload", "% payload", "bus"]
_SHOWN = 4
"""The most groups and kinds in the line of a report."""


def render(profile: Profile) -> str:
    """Return what was communicated as text: in which groups, in which phases, and for which modules.

    Example:
        >>> from opcount.profile import Profile
        >>> render(Profile())
        'nothing was communicated: no collective, send or receive ran'
    """
    sent = profile.communication
    steps = [] if profile.steps is None else [profile.steps.verdict()]
    if not sent:
        return "\n".join([NOTHING_SENT, *steps])
    tables = [_by_group(sent), _by_phase(sent), _by_module(sent)]
    return "\n".join([*("\n".join([*table, ""]) for table in tables), *communication_lines(profile), *steps])


def communication_lines(profile: Profile) -> Iterator[str]:
    """Yield one line: the payloads and the bytes over a rank's link, by group and kind; nothing if there were none."""
    sent = profile.communication
    if not sent:
        return
    parts = sorted(sent.by_group_and_kind().items(), key=lambda part: -part[1].buffer_bytes)
    shown = [
        f"{printable(group)} {kind} {si(volume.buffer_bytes, 'B')} in {plural(volume.calls, 'call')}"
        for (group, _, kind), volume in parts[:_SHOWN]
    ]
    more = ["others"] if len(parts) > _SHOWN else []
    yield f"communication: {_words(sent.total)}: {', '.join([*shown, *more])}"


def communication_changes(old: Communication, new: Communication) -> list[str]:
    """Return the change of the payload in a line, and one for each group and kind whose payload changed.

    Example:
        >>> from opcount.communication import Communication
        >>> communication_changes(Communication(), Communication())
        []
    """
    before, after = old.by_group_and_kind(), new.by_group_and_kind()
    if before == after:
        return []
    lines = [f"communication: {_words(old.total)} -> {_words(new.total)}"]
    for key in {**before, **after}:
        group, ranks, kind = key
        was, now = before.get(key, Volume()), after.get(key, Volume())
        if was != now:
            name = f"{printable(group)} ({ranks} ranks) {kind}"
            lines.append(f"  {name}: {_in_calls(was)} -> {_in_calls(now)}")
    return lines


def _words(volume: Volume) -> str:
    return f"{si(volume.buffer_bytes, 'B')} of payload, {si(volume.bus_bytes, 'B')} over the link"


def _in_calls(volume: Volume) -> str:
    return f"{si(volume.buffer_bytes, 'B')} in {plural(volume.calls, 'call')}" if volume.calls else "none"


def _cells(volume: Volume, total: Volume) -> list[str]:
    share = percent(volume.buffer_bytes, total.buffer_bytes)
    return [str(volume.calls), si(volume.buffer_bytes, "B"), share, si(volume.bus_bytes, "B")]


def _by_group(sent: Communication) -> Iterator[str]:
    total = sent.total
    rows = [
        [printable(group), str(ranks) if ranks else "-", kind, *_cells(volume, total)]
        for (group, ranks, kind), volume in sent.by_group_and_kind().items()
    ]
    return plain(["group", "ranks", "collective", *_HEADERS], rows, words=[True, False, True, *[False] * len(_HEADERS)])


def _by_phase(sent: Communication) -> Iterator[str]:
    total = sent.total
    rows = [[printable(phase), *_cells(volume, total)] for phase, volume in sent.by_phase().items()]
    return plain(["phase", *_HEADERS], rows, words=1)


def _by_module(sent: Communication) -> Iterator[str]:
    total, issued = sent.total, sent.by_issuer()
    modules = sent.by_module()
    rows = [
        [
            "  " * (path.count(".") + 1) + printable(path.rpartition(".")[2]) if path != ROOT else "(all)",
            *_cells(modules.get(path, Volume()), total),
            str(issued.get(path, Volume()).calls),
        ]
        for path in _in_order(modules, issued)
    ]
    return plain(["module", *_HEADERS, "calls that it ran"], rows, words=1)


def _in_order(*tables: dict[str, Volume]) -> list[str]:
    """Return the paths of all tables, each module followed by those inside it."""
    children = by_parent(list(parents_first(path for table in tables for path in table)))
    found, pending = [], [ROOT]
    while pending:
        path = pending.pop()
        found.append(path)
        pending += reversed(children.get(path, []))
    return found
