"""Profiles made by hand: what a budget says of them needs no model."""

from __future__ import annotations

from opcount import Cost, Profile
from opcount.profile import Module, Record


def row(path, macs, phase="forward", operator="aten.mm.default", family="matmul", arith=0):
    stack = tuple(dict.fromkeys(("", *(path.rsplit(".", n)[0] for n in range(path.count("."), 0, -1)), path)))
    return Record(stack, operator, family, phase, "float32", 1, Cost(macs, arith, 10), 40, "(1x10, 10x10) -> 1x10")


def profile(*rows, params=None):
    """Return a profile of ``(path, macs)`` or records; the root is a module, as with a model."""
    records = tuple(r if isinstance(r, Record) else row(*r) for r in rows)
    paths = dict.fromkeys(["", *(p for r in records for p in r.stack)])
    modules = {path: Module(path, "Linear", (params or {}).get(path, 0), 1) for path in paths}
    return Profile(records=records, modules=modules)


def texts(budget, counted):
    return [failure.text for failure in budget.check(counted)]
