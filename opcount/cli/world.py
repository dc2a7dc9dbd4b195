"""``opcount run --world N SCRIPT``: a program as ranks of a world that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcount.cli.output import read, warn, write
from opcount.distributed.simulate import simulate
from opcount.distributed.simulate_ranks import RankKind, World, representatives
from opcount.distributed.simulate_stages import SHAPES_FILE, save_shapes
from opcount.errors import OpcountError
from opcount.reporter.columns import plain
from opcount.reporter.numbers import si

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from opcount.counter import OpCounter
    from opcount.profile import Profile

REPRESENTATIVE = "representative"


def simulated(options: argparse.Namespace) -> AbstractContextManager[OpCounter]:
    """Return a block that is one rank."""
    return simulate(world=options.world, rank=options.rank, ranks_per_node=options.ranks_per_node, device=options.on)


def other_ranks(options: argparse.Namespace, profile: Profile) -> World:
    """Count one rank of each other kind, each in a process of its own.

    Args:
        options: The command line.
        profile: Of the rank that was counted in this process, 0.
    """
    kinds = []
    with tempfile.TemporaryDirectory() as folder:
        shapes = Path(folder) / "shapes"
        save_shapes(shapes)
        for rank, count in representatives(profile, options.world):
            if rank:
                warn(f"counting rank {rank}, which stands for {count} of {options.world}")
            counted = _in_new_process(options, rank, shapes, Path(folder) / f"{rank}.json") if rank else profile
            kinds.append(RankKind(rank, count, counted))
    return World(tuple(kinds))


def _in_new_process(options: argparse.Namespace, rank: int, shapes: Path, file: Path) -> Profile:
    place = ["--world", str(options.world), "--rank", str(rank), "--ranks-per-node", str(options.ranks_per_node)]
    device = ["--on", options.on] if options.on is not None else []
    program = [*(["-m"] if options.module else []), options.script, *options.arguments]
    command = [sys.executable, "-m", "opcount", "run", *place, *device, "--format", "json", "-o", str(file), *program]
    environment = {**os.environ, SHAPES_FILE: str(shapes)}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    done = subprocess.run(command, env=environment, text=True, check=False, **pipes)  # noqa: S603
    if not file.is_file() or done.returncode:
        raise OpcountError(
            f"run: expected rank {rank} of {options.world} to end with 0, got {done.returncode}. What it said:\n"
            f"{done.stderr}"
        )
    return read(file)


def report(world: World, options: argparse.Namespace) -> None:
    """Print a line for each kind of rank; write the profiles where a file was named."""
    if options.output is not None:
        write(world.to_json(), options.output)
    if sys.stderr is not None:
        sys.stderr.write("\n".join(lines_of(world)) + "\n")


def lines_of(world: World) -> Iterator[str]:
    """Yield a table of the kinds of ranks."""
    headers = ["rank", "ranks", "MACs", "read", "written", "live peak", *_groups(world)]
    rows = []
    for kind in world.kinds:
        peak = kind.profile.memory
        rows.append([
            str(kind.rank), str(kind.count), *(si(number) for number in _numbers(kind.profile)),
            "-" if peak is None else f"{si(peak.peak)}B",
            *(f"{si(sent(kind.profile, group))}B" for group in _groups(world)),
        ])  # fmt: skip
    totals = [si(world.total(of)) for of in _NUMBERS]
    peaks = [kind.profile.memory.peak for kind in world.kinds if kind.profile.memory is not None]
    sums = [f"{si(world.total(lambda each, name=group: sent(each, name)))}B" for group in _groups(world)]  # type: ignore[misc]
    rows.append(["all", str(world.ranks), *totals, f"{si(max(peaks, default=0))}B", *sums])
    yield from plain(headers, rows, words=0)
    yield ""
    yield "Below the name of a group: bytes over one rank's link. Live peak of all: the largest."


_NUMBERS: tuple[Callable[[Profile], int], ...] = (
    lambda profile: profile.macs,
    lambda profile: profile.bytes_read,
    lambda profile: profile.bytes_written,
)


def _numbers(profile: Profile) -> list[int]:
    return [of(profile) for of in _NUMBERS]


def _groups(world: World) -> list[str]:
    found = {
        record.collective.group: None
        for kind in world.kinds
        for record in kind.profile.records
        if record.collective is not None and record.collective.ranks != 1
    }
    return list(found)


def sent(profile: Profile, group: str) -> int:
    """Return the bytes that a rank's collectives of a group move over its link."""
    return sum(
        record.collective.bus_bytes
        for record in profile.records
        if record.collective is not None and record.collective.group == group
    )


def with_name(profile: Profile, options: argparse.Namespace) -> Profile:
    """Return the profile of a rank that says which it is."""
    place = f"rank {options.rank} of {options.world}, dry"
    return replace(profile, provenance={**profile.provenance, "run": place})
