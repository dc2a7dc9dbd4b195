"""Worker processes that judge programs: one that kills its process, or never ends, is a failure like any other."""

from __future__ import annotations

import multiprocessing
from itertools import islice
from signal import Signals
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

BATCH = 25
"""Programs of one worker."""

PATIENCE = 180
"""Seconds that one program may take, made smaller included."""


class Verdict(NamedTuple):
    """The judgement of one program.

    Attributes:
        seed: Of the program.
        kinds: The kinds of parts and actions in it.
        report: The program and what is wrong with it; empty if nothing is.
    """

    seed: int
    kinds: list[str]
    report: str


def judged(seeds: Iterator[int], judge: Callable[[int], Verdict]) -> Iterator[Verdict]:
    """Yield a verdict for each seed, in order."""
    while batch := list(islice(seeds, BATCH)):
        while batch:
            for verdict in _by_one_worker(batch, judge):
                yield verdict
                batch.remove(verdict.seed)


def _by_one_worker(batch: list[int], judge: Callable[[int], Verdict]) -> Iterator[Verdict]:
    """Yield verdicts up to the first program that its worker does not survive."""
    context = multiprocessing.get_context("fork")  # modules are imported, and no graph has run here
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(sender, list(batch), judge))
    worker.start()
    sender.close()
    try:
        for seed in list(batch):
            if not receiver.poll(PATIENCE):
                yield Verdict(seed, [], f"# ---- seed {seed}: not done after {PATIENCE} seconds ----")
                return
            try:
                yield receiver.recv()
            except EOFError:
                worker.join()
                yield Verdict(seed, [], f"# ---- seed {seed}: its process ended by {_cause(worker.exitcode)} ----")
                return
    finally:
        worker.kill()
        worker.join()


def _cause(code: Any) -> str:
    return Signals(-code).name if code and code < 0 else f"exit code {code}"


def _work(sender: Connection, seeds: list[int], judge: Callable[[int], Verdict]) -> None:
    for seed in seeds:
        sender.send(judge(seed))
