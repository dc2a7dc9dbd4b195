"""``opcount size FILE.json --on DEVICE``: what a step takes at least, and how long a training lasts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opcount.cli.output import write
from opcount.devices import Device
from opcount.distributed.simulate_ranks import read_world
from opcount.distributed.sizing import Sizing
from opcount.errors import InputError

if TYPE_CHECKING:
    import argparse

_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_RATE = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def run(options: argparse.Namespace) -> int:
    """Print the floors of a step, and what a plan makes of them."""
    sizing = Sizing(
        world=read_world(options.file),
        device=Device.find(options.on),
        links=dict(map(link_of, options.link)),
        tokens_per_step=None if options.tokens_per_step is None else number_of(options.tokens_per_step),
        tokens=None if options.tokens is None else number_of(options.tokens),
        mfu=options.mfu,
    )
    write(f"{sizing}\n", options.output)
    return 0


def number_of(text: str) -> float:
    """Return a number with a unit of thousands.

    Raises:
        InputError: It is none.

    Example:
        >>> number_of("15T"), number_of("16.8M"), number_of("4096")
        (15000000000000.0, 16800000.0, 4096.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\d+)?)([kMGBT]?)", text.strip())
    if found is None:
        raise InputError(f"size: expected a number such as 4096, 16.8M or 15T, got {text!r}. Write it so.")
    return float(found[1]) * _SCALES[found[2]]


def link_of(text: str) -> tuple[str, float]:
    """Return the group and the bytes per second of a link.

    Raises:
        InputError: It is none.

    Example:
        >>> link_of("tp=450GB/s"), link_of("dp=400Gbit/s"), link_of("pp=50e9")
        (('tp', 450000000000.0), ('dp', 50000000000.0), ('pp', 50000000000.0))
    """
    group, _, rate = text.rpartition("=")
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\d+)?)\s*(?:([kMGT]?)(B|bit|b)(?:/s|ps))?", rate.strip())
    if not group or found is None:
        raise InputError(
            f"--link: expected a group and a rate, such as tp=450GB/s or dp=400Gbit/s, got {text!r}. Write it so."
        )
    in_bytes = 1.0 if found[3] in (None, "B") else 1 / 8
    return group, float(found[1]) * _RATE[found[2] or ""] * in_bytes
