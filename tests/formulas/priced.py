"""Overloads that are priced, by family and packet: ``python -m tests.formulas.priced`` writes ``reference/priced.txt``.

Written with the newest PyTorch, whose tags explain most operators; an older one that tags fewer is held to the same.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch

import opcount.formulas  # noqa: F401  (registers the formulas)
from opcount.formulas import rule_for
from opcount.registry import BUILTIN, operator_keys

FILE = Path(__file__).parents[1] / "reference" / "priced.txt"
NAMESPACES = ("aten", "prims")


def overloads():
    """Yield the overloads that Python can call, with the names of their packets."""
    for full_name in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, rest = full_name.partition("::")
        packet, _, overload = rest.partition(".")
        func = getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default", None)
        if namespace in NAMESPACES and func is not None:
            yield f"{namespace}.{packet}", overload or "default", func


def family_of(func):
    """Return the family of an overload; None if nothing prices it."""
    formulas = BUILTIN.find(operator_keys(func)) or [rule_for(func)]
    return getattr(formulas[-1], "family", None)


def recorded():
    """Return the families that the newest PyTorch had, by packet and overload."""
    rows = (line.split() for line in FILE.read_text().splitlines())
    return {(packet, overload): family for family, packet, *names in rows for overload in names}


if __name__ == "__main__":
    rows = defaultdict(list)
    for packet, overload, func in overloads():
        if family_of(func):
            rows[family_of(func), packet].append(overload)
    FILE.write_text("".join(f"{family} {packet} {' '.join(rows[family, packet])}\n" for family, packet in sorted(rows)))
