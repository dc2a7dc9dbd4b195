"""The explanation of a module's cost: each of its own operators with formula, shapes and exact numbers."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from opcount.coverage import FREE, UNCOUNTED, plural
from opcount.errors import InputError
from opcount.escapes import printable, visible
from opcount.paths import ROOT
from opcount.records import Total
from opcount.reporter.sampling_lines import heading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opcount.profile import Profile
    from opcount.records import Module, Record

_INDENT = "    "


class Group(NamedTuple):
    """The key of an entry: calls from all callers of the module are added up."""

    operator: str
    family: str
    phase: str
    dtype: str


def render(profile: Profile, path: str) -> str:
    """Return the explanation of one module as text; numbers are exact.

    Args:
        profile: The count.
        path: Of the module; one of its aliases will do. The root is ``""``.

    Raises:
        InputError: There is no such module; near names are offered.

    Example:
        >>> from opcount.cost import Cost
        >>> from opcount.profile import Module, Profile, Record
        >>> record = Record(("", "fc"), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(24, 0, 8))
        >>> modules = {"": Module("", "Net"), "fc": Module("fc", "Linear", 12, 1)}
        >>> formulas = {"aten.mm.default": "``out[m, n] = sum(a[m, k] * b[k, n] for k)``."}
        >>> profile = Profile((record._replace(shapes="(2x3, 3x4) -> 2x4"),), modules, formulas=formulas)
        >>> print(render(profile.with_convention("macs"), "fc"))
        fc: Linear, called once
        aten.mm.default: matmul, forward, float32, 1 call
            out[m, n] = sum(a[m, k] * b[k, n] for k).
            (2x3, 3x4) -> 2x4
            24 MACs, 8 activations
        total: 24 MACs, 8 activations
        convention: macs (MACs of contractions only)
    """
    path = _resolve(profile, path)
    own = [record for record in profile.records if record.path == path]
    lines = [_title(path, profile.modules.get(path)), *_entries(profile, own), *_children(profile, path)]
    total = profile.by_module().get(path, Total())
    lines.append(f"{heading(profile)}: {_numbers(total, profile)}")
    lines += _traffic(total, profile)
    lines.append(f"convention: {visible(profile.convention.name)} ({visible(profile.convention.summary)})")
    return "\n".join(lines)


def _resolve(profile: Profile, path: str) -> str:
    aliases = {alias: module.path for module in profile.modules.values() for alias in module.aliases}
    known = {*profile.modules, *(record.path for record in profile.records), ROOT}
    if isinstance(path, str) and path in known:
        return path
    if isinstance(path, str) and path in aliases:
        return aliases[path]
    near = get_close_matches(str(path), sorted(known | set(aliases)), n=3)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "by_module() lists the paths; the root is ''."
    raise InputError(
        f"explain: expected the path of a module that was counted, got {path!r} of type {type(path).__name__}. {hint}"
    )


def _title(path: str, module: Module | None) -> str:
    name = printable(path) or "the root"
    if module is None:
        return name
    times = {0: "not called", 1: "called once"}.get(module.calls, f"called {module.calls} times")
    return f"{name}: {printable(module.type)}, {times}" if module.type else f"{name}: {times}"


def _entries(profile: Profile, records: Iterable[Record]) -> Iterator[str]:
    """Yield the entries of counted operators, then the uncounted ones, then one line for all free ones."""
    groups: dict[Group, list[Record]] = {}
    for record in records:
        group = Group(record.operator, record.family, record.phase, record.dtype)
        groups.setdefault(group, []).append(record)
    free: dict[str, int] = {}
    unknown: list[str] = []
    for group, rows in groups.items():
        total = sum(map(profile.read, rows), Total())
        if group.family == FREE:
            free[group.operator] = free.get(group.operator, 0) + total.calls
        elif group.family == UNCOUNTED:
            unknown += [_head(group, total), f"{_INDENT}no formula: nobody knows what it computes", *_shapes(rows)]
        else:
            yield _head(group, total)
            yield from _mathematics(profile, group)
            yield from _shapes(rows)
            yield _INDENT + _numbers(total, profile)
            yield from (_INDENT + line for line in _traffic(total, profile))
    yield from unknown
    if free:
        yield "free: " + ", ".join(f"{printable(name)} ({plural(calls, 'call')})" for name, calls in free.items())


def _head(group: Group, total: Total) -> str:
    words = [printable(word) for word in (group.family, group.phase, group.dtype) if word]
    return f"{printable(group.operator)}: {', '.join(words)}, {plural(total.calls, 'call')}"


def _mathematics(profile: Profile, group: Group) -> Iterator[str]:
    text = profile.formulas.get(group.operator)
    if text:
        yield _INDENT + visible(text.replace("``", ""))


def _shapes(rows: list[Record]) -> Iterator[str]:
    """Yield the shapes of the first call from each caller; only the first call of a row is known."""
    calls = sum(row.calls for row in rows)
    distinct = list(dict.fromkeys(row.shapes for row in rows if row.shapes))
    for shapes in distinct:
        yield f"{_INDENT}{visible(shapes)}" + (" at the first call" if calls > len(distinct) else "")


def _children(profile: Profile, path: str) -> Iterator[str]:
    """Yield one line for each child that computes, children of its own included."""
    for child, total in profile.by_module().items():
        if child != ROOT and _parent(child) == path and (total.macs or total.arith):
            yield f"{printable(child)}: {_numbers(total, profile)}"


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _numbers(total: Total, profile: Profile) -> str:
    """Write exact numbers, nothing that is zero except when all is, and no FLOPs that equal the MACs."""
    counted = [(total.macs, "MAC"), (total.arith, "other operation"), (total.activations, "activation")]
    parts = [_exactly(count, noun) for count, noun in counted if count]
    text = ", ".join(parts) or "0 MACs"
    if total.flops == total.macs:
        return text
    return f"{text}; {_exactly(total.flops, 'FLOP')} under {visible(profile.convention.name)}"


def _traffic(total: Total, profile: Profile) -> Iterator[str]:
    """Yield a line of the bytes moved, if any are known."""
    if total.traffic and profile.knows_traffic:
        intensity = f"; {total.arithmetic_intensity:.3g} FLOPs/byte" if total.macs else ""
        yield f"{_exactly(total.bytes_read, 'byte')} read, {total.bytes_written:,} written{intensity}"


def _exactly(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
