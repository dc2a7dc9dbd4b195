"""Generate programs and check them: ``python -m tests.generator --minutes 30 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import torch

import opcount.dryrun  # noqa: F401  (takes long, and each worker would do it again)
from tests.generator.compare import CHECKS, complaints
from tests.generator.outcome import outcome
from tests.generator.program import program
from tests.generator.shrink import shrink
from tests.generator.workers import Verdict, judged

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generator", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the next has the next")
    parser.add_argument("--count", type=int, help="stop after so many programs")
    parser.add_argument("--minutes", type=float, default=1, help="stop after this time (default: 1)")
    parser.add_argument("--without", default="", help="parts and actions to leave out, separated by commas")
    parser.add_argument("--often", default="", help="parts and actions to use often, separated by commas")
    parser.add_argument("--only", default="", help="the checks to make, separated by commas")
    parser.add_argument("--show", action="store_true", help="print the program and stop")
    parser.add_argument("--no-shrink", action="store_true", help="print failing programs as they are")
    parser.add_argument("--raising", action="store_true", help="list the programs that raise, and check nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    made = partial(program, without=names(args.without), often=names(args.often))
    if args.show:
        print(made(args.seed).text())
        return 0
    seeds = until(time.monotonic() + 60 * args.minutes, count(args.seed), args.count)
    checks = names(args.only) or set(CHECKS)
    verdicts = judged(seeds, lambda seed: verdict_on(made(seed), checks, args))
    return summary(args.seed, verdicts)


def names(text: str) -> set[str]:
    return set(filter(None, text.split(",")))


def until(end: float, seeds: Iterator[int], limit: int | None) -> Iterator[int]:
    """Yield seeds until the time is over."""
    for number, seed in enumerate(seeds):
        if number == limit or time.monotonic() >= end:
            return
        yield seed


def verdict_on(made, checks, args) -> Verdict:
    """Check a program, and make it smaller where it fails."""
    if args.raising:
        error = outcome(made).error
        found = {"raises": [repr(error)]} if error else {}
    else:
        found = complaints(made, checks)
    kinds = made.names
    if found and not (args.no_shrink or args.raising):
        made, found = shrink(made, found)
    return Verdict(made.seed, kinds, report(made, found) if found else "")


def report(made, found) -> str:
    lines = [f"# ---- seed {made.seed}: {', '.join(found)} ----", made.text()]
    for name, said in found.items():
        lines += [f"# {name}:", *(f"#     {line[:600]}" for line in said[:6])]
    return "\n".join(lines)


def summary(first: int, verdicts: Iterator[Verdict]) -> int:
    """Print the failures as they come, and at last what ran."""
    failures: list[int] = []
    kinds: Counter[str] = Counter()
    last = first - 1
    for last, seen, text in verdicts:
        kinds.update(seen)
        if text:
            failures.append(last)
            print(f"\n{text}", flush=True)
    print(", ".join(f"{name} {number}" for name, number in sorted(kinds.items())))
    print(f"{last - first + 1} programs, seeds {first} to {last}, {len(failures)} failures: {failures}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
