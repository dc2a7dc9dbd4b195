"""``opcount run`` on several ranks: under ``torchrun``, or with ``--nproc``, which starts them as that does."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING

import opcount
from opcount.cli.output import is_regular, warn
from opcount.cli.rank_watch import HANGS, RankWatch
from opcount.distributed.ranks import Ranks
from opcount.errors import InputError, OpcountError
from opcount.files import write
from opcount.profile import Profile

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

WAIT = 60.0
"""Seconds to wait for the counts of other ranks when the program of this one has ended."""

_HURRY = 3.0
"""Seconds to wait once the process is told to end: whoever tells it kills it later."""

_ENDED = "ended"
"""Key in the provenance of a stored count of a rank: how its program ended."""

_WELL = "0"


def start(options: argparse.Namespace) -> int:
    """Start ranks on this machine by PyTorch's elastic launcher, and wait until all have ended."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415  (takes a second)
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    if options.nproc < 1:
        raise InputError(f"--nproc: expected a number of ranks from 1 up, got {options.nproc!r}.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = [str(Path(opcount.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=options.nproc, run_id=f"opcount-{os.getpid()}", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "opcount", *_without_nproc(options.command_line))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        ended = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        warn(f"run: rank {rank} was the first of {options.nproc} to fail, with {ended}.")
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


def _without_nproc(words: list[str]) -> list[str]:
    """Return a command line without its first ``--nproc N``, which stands before the program."""
    place = next(i for i, word in enumerate(words) if word.partition("=")[0] == "--nproc")
    return [*words[:place], *words[place + (1 if "=" in words[place] else 2) :]]


class RankRun:
    """The run of a program as one rank of several; rank 0 merges the counts of all.

    Args:
        options: The command line.
        rank: The number of this rank.
        world: How many there are.

    Attributes:
        complete: Whether all ranks have left a count, and none failed.

    Raises:
        InputError: The ranks run on several machines, and no file says where they can leave their counts.
    """

    def __init__(self, options: argparse.Namespace, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.complete = True
        self._wait: float = WAIT if options.rank_timeout is None else options.rank_timeout
        output: Path | None = options.output
        if output is not None and is_regular(output):
            self._place = output.resolve().parent / output.stem
        elif os.environ.get("LOCAL_WORLD_SIZE", str(world)) != str(world):
            raise InputError(
                f"run: expected -o FILE on a disk that all machines share, got none, and {world} ranks of which "
                f"{os.environ['LOCAL_WORLD_SIZE']} run here. Name one: the ranks leave their counts beside it."
            )
        else:
            name = f"opcount-{os.getppid()}-{os.environ.get('MASTER_PORT', '')}"
            self._place = Path(tempfile.gettempdir()) / name
        self._file(rank).unlink(missing_ok=True)
        self._writing = Lock()

    @classmethod
    def of(cls, options: argparse.Namespace) -> RankRun:
        """Return the run of the rank that the environment tells of, as launchers do."""
        rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
        if rank.isdecimal() and world.isdecimal():
            return cls(options, int(rank), int(world))
        raise InputError(
            f"run: expected RANK and WORLD_SIZE in the environment to be numbers, as torchrun sets them, got "
            f"{rank!r} and {world!r}. Set both, or neither."
        )

    def watch(self, profile: Callable[[], Profile], report: Callable[[Ranks], None], stall: float | None) -> RankWatch:
        """Return a watch that keeps the count if the process is told to end, or hangs.

        Args:
            profile: Returns the count so far.
            report: Writes the report of all ranks.
            stall: Seconds without an operator after which this rank is taken to hang; None: any number may pass.
        """

        def end(how: str) -> None:
            self._writing.acquire()  # for good, so that the process ends in no write of its main thread
            self._write(profile(), how)
            if self.rank == 0:
                report(self.collect(_HURRY if stall is None else stall + _HURRY))

        return RankWatch(end, lambda: profile().total.calls, stall)

    def finish(self, profile: Profile, status: int, watch: RankWatch) -> Ranks | None:
        """Leave the count of this rank; return those of all on rank 0, after they have answered or not in time."""
        with self._writing:
            self._write(profile, str(status))
        return self.collect(self._wait, watch) if self.rank == 0 else None

    def collect(self, seconds: float, watch: RankWatch | None = None) -> Ranks:
        """Return the counts of the ranks that leave one in time, and say which do not, and which failed."""
        deadline = monotonic() + seconds
        while missing := [rank for rank in range(self.world) if not self._file(rank).is_file()]:
            if watch is not None and watch.told:
                deadline = min(deadline, monotonic() + _HURRY)
            if monotonic() > deadline:
                break
            sleep(0.02)
        profiles = {rank: self._read(rank) for rank in range(self.world) if rank not in missing}
        failed = {rank: p.provenance[_ENDED] for rank, p in profiles.items() if p.provenance.get(_ENDED) != _WELL}
        for rank, how in sorted(failed.items(), key=lambda item: not item[1].startswith(HANGS)):
            warn(f"run: rank {rank} {f'ended with exit code {how}' if how.isdecimal() else how}.")
        if missing:
            names = f"rank {missing[0]}" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))}"
            warn(
                f"run: expected a count of each of {self.world} ranks, got none of {names} within {seconds:g} s: it "
                f"was killed, or hangs. The counts of the others are merged here, and kept: {self._file(0)}, ..."
            )
        self.complete = not missing and not failed
        if self.complete:
            for rank in profiles:
                self._file(rank).unlink(missing_ok=True)
        elif not missing:
            warn(f"run: the counts of all ranks so far are merged here, and kept: {self._file(0)}, ...")
        return Ranks({rank: _without_end(profile) for rank, profile in profiles.items()})

    def _file(self, rank: int) -> Path:
        return self._place.with_name(f"{self._place.name}.rank{rank}.json")

    def _write(self, profile: Profile, ended: str) -> None:
        write(self._file(self.rank), replace(profile, provenance={**profile.provenance, _ENDED: ended}).to_json())

    def _read(self, rank: int) -> Profile:
        try:
            return Profile.from_json(self._file(rank).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OpcountError(f"run: the count of rank {rank} cannot be read: {error}. Run again.") from error


def _without_end(profile: Profile) -> Profile:
    return replace(profile, provenance={key: text for key, text in profile.provenance.items() if key != _ENDED})
