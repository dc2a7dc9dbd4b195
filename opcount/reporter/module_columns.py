"""The columns that a report of modules may have."""

from __future__ import annotations

from collections import defaultdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from opcount.coverage import FREE, UNCOUNTED
from opcount.errors import InputError
from opcount.escapes import printable, visible
from opcount.paths import parents
from opcount.records import SENT, SHAPES
from opcount.reporter.amounts import flops_label
from opcount.reporter.numbers import percent, si
from opcount.roofline import Floor, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opcount.profile import Profile
    from opcount.records import Module, Total
    from opcount.reporter.outline import ModuleLine
    from opcount.roofline import Roofline

NOT_CALLED = "-"

COLUMNS = (
    "type", "input", "output", "kernel", "dtype", "params", "trainable", "frozen", "param_bytes",
    "macs", "flops", "arith", "activations", "calls", "read", "written", "traffic", "intensity", "buffer", "bus",
    "share",     "hardware_flops", "bound", "floor", "floor_share",
)  # fmt: skip
"""The names of all columns."""

ON_DEVICE = ("bound", "floor", "floor_share")
"""Columns of a count on a device."""

TORCHINFO = {
    "input_size": "input",
    "output_size": "output",
    "num_params": "params",
    "kernel_size": "kernel",
    "mult_adds": "macs",
}
"""Names of torchinfo's for some of the columns."""

_TOTALS: dict[str, tuple[str, Callable[[Total], int]]] = {
    "macs": ("MACs", lambda total: total.macs),
    "arith": ("arith", lambda total: total.arith),
    "activations": ("activations", lambda total: total.activations),
    "hardware_flops": ("FLOPs (torch)", lambda total: 2 * total.macs),
}
_BYTES = {"read": "bytes_read", "written": "bytes_written", "traffic": "traffic", "buffer": SENT[0], "bus": SENT[1]}
_USUAL = ("type", "params", "macs", "flops", "activations", "share")
_USUAL_ON_DEVICE = ("type", "hardware_flops", "traffic", "intensity", *ON_DEVICE)


class Column(NamedTuple):
    """One column beside the modules' names.

    Attributes:
        header: Its heading.
        cell: Returns what it shows of a line.
        is_number: Whether it holds numbers, which are aligned at the right.
        share: Returns the part of the whole, from 0 to 1, where the column shows one.
    """

    header: str
    cell: Callable[[ModuleLine], str]
    is_number: bool = True
    share: Callable[[ModuleLine], float] | None = None


def columns_named(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of columns, once each.

    Raises:
        InputError: There is no such column; near names are offered.
    """
    for name in names:
        if name not in COLUMNS:
            near = get_close_matches(str(name), [*COLUMNS, *TORCHINFO], n=1)
            hint = f"Did you mean {TORCHINFO.get(near[0], near[0])}?" if near else f"There are {', '.join(COLUMNS)}."
            raise InputError(f"columns: expected names of columns, got {name!r}. {hint}")
    return tuple(dict.fromkeys(names))


def columns_of(
    profile: Profile,
    lines: Sequence[ModuleLine],
    names: Sequence[str] | None = None,
    roofline: Roofline | None = None,
) -> list[Column]:
    """Return the columns of these names; by default those that have something to say.

    Not said are zeros alone, and FLOPs that equal the MACs. On a device they are times, and their causes.

    Raises:
        InputError: A column needs a device and there is none, or there is no such column.
    """
    flops_are_macs = all(line.total.flops == line.total.macs for line in lines)
    if names is None and roofline is not None:
        names = _USUAL_ON_DEVICE
    elif names is None:
        said = {
            "type": True,
            "params": any(line.params for line in lines),
            "macs": any(line.total.macs for line in lines),
            "flops": not flops_are_macs,
            "activations": any(line.total.activations for line in lines),
            "share": bool(profile.flops),
        }
        names = [name for name in _USUAL if said[name]]
    floors = _floor_columns(roofline) if roofline is not None else {}
    if missing := [name for name in names if name in ON_DEVICE and name not in floors]:
        raise InputError(f"columns: expected a device beside {', '.join(missing)}, got none. Name one with --on.")
    return [
        floors[name] if name in floors else _column(name, profile, flops_are_macs=flops_are_macs)
        for name in columns_named(names)
    ]


def _floor_columns(roofline: Roofline) -> dict[str, Column]:
    floors = roofline.by_module()

    def floor(line: ModuleLine) -> Floor:
        return Floor(*(line.copies * seconds for seconds in floors.get(line.path, Floor())))

    return {
        "bound": Column("bound", lambda line: floor(line).bound or NOT_CALLED, is_number=False),
        "floor": Column("time floor", lambda line: duration(floor(line).seconds)),
        "floor_share": Column(
            "% time",
            lambda line: percent(floor(line).seconds, roofline.seconds),
            share=lambda line: roofline.share(floor(line)),
        ),
    }


def _column(name: str, profile: Profile, *, flops_are_macs: bool) -> Column:  # noqa: PLR0911  (one for each kind)
    if name == "type":
        return Column("type", lambda line: line.type, is_number=False)
    if name in SHAPES:
        return Column(name, lambda line: _fact(profile, line, name), is_number=False)
    if name == "dtype":
        known = _dtypes(profile)
        return Column(name, lambda line: visible("+".join(sorted(known.get(line.path, ())))), is_number=False)
    if name in {"params", "trainable", "frozen", "param_bytes"}:
        return Column(name.replace("_", " "), lambda line: _of_parameters(profile, line, name))
    if name == "flops":
        return Column(flops_label(profile.convention), lambda line: _counted(line, line.total.flops))
    if name == "calls":
        return Column(name, lambda line: _calls(profile, line))
    if name in _BYTES:
        return _of_bytes(name, profile)
    if name == "intensity":
        profile.check_traffic()
        return Column("FLOP/B", lambda line: f"{line.total.arithmetic_intensity:.4g}" if line.ran else NOT_CALLED)
    if name == "share":
        unit = "MACs" if flops_are_macs else "FLOPs"
        return Column(
            f"% {unit}",
            lambda line: _share(line, profile),
            share=lambda line: line.total.flops / profile.flops if profile.flops else 0.0,
        )
    header, number = _TOTALS[name]
    return Column(header, lambda line: _counted(line, number(line.total)))


def _of_bytes(name: str, profile: Profile) -> Column:
    attribute = _BYTES[name]
    if attribute not in {"bytes_written", *SENT}:
        profile.check_traffic()
    return Column(name, lambda line: si(getattr(line.total, attribute), "B") if line.ran else NOT_CALLED)


def _module(profile: Profile, line: ModuleLine) -> Module | None:
    return profile.modules.get(line.path)


def _fact(profile: Profile, line: ModuleLine, name: str) -> str:
    module = _module(profile, line)
    if module is None:
        return ""
    return printable({"input": module.inputs, "output": module.outputs, "kernel": module.kernel}[name])


def _of_parameters(profile: Profile, line: ModuleLine, name: str) -> str:
    module = _module(profile, line)
    if module is None or (name != "params" and module.params and not module.param_bytes):  # an old file does not know
        return ""
    frozen = module.params - module.trainable
    known = {
        "params": module.params,
        "trainable": module.trainable,
        "frozen": frozen,
        "param_bytes": module.param_bytes,
    }
    return si(line.copies * known[name], "B" if name == "param_bytes" else "") if line.type else ""


def _calls(profile: Profile, line: ModuleLine) -> str:
    module = _module(profile, line)
    return str(line.copies * module.calls) if module is not None and line.ran else NOT_CALLED


def _dtypes(profile: Profile) -> dict[str, set[str]]:
    """Return the dtypes that compute in each module, children included."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for record in profile.records:
        if record.dtype and record.family not in {FREE, UNCOUNTED}:
            for path in parents(record.path):
                found[path].add(record.dtype)
    return found


def _counted(line: ModuleLine, number: int) -> str:
    return si(number) if line.ran else NOT_CALLED


def _share(line: ModuleLine, profile: Profile) -> str:
    return percent(line.total.flops, profile.flops) if line.ran else NOT_CALLED
