"""Generate programs and check them: ``python -m tests.generator --minutes 30 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import torch

from tests.generator.compare import CHECKS, complaints
from tests.generator.outcome import outcome
from tests.generator.program import program
from tests.generator.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generator", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the next has the next")
    parser.add_argument("--count", type=int, help="stop after so many programs")
    parser.add_argument("--minutes", type=float, default=1, help="stop after this time (default: 1)")
    parser.add_argument("--without", default="", help="parts and actions to leave out, separated by commas")
    parser.add_argument("--often", default="", help="parts and actions to use often, separated by commas")
    parser.add_argument("--only", help="the checks to make, separated by commas")
    parser.add_argument("--show", action="store_true", help="print the program and stop")
    parser.add_argument("--no-shrink", action="store_true", help="print failing programs as they are")
    parser.add_argument("--raising", action="store_true", help="list the programs that raise, and check nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    without, often = (set(filter(None, names.split(","))) for names in (args.without, args.often))
    if args.show:
        print(program(args.seed, without, often).text())
        return 0
    only = args.only.split(",") if args.only else list(CHECKS)
    end, seed, failures, kinds = time.monotonic() + 60 * args.minutes, args.seed, [], Counter()
    while time.monotonic() < end and (args.count is None or seed < args.seed + args.count):
        made = program(seed, without, often)
        kinds.update(made.names)
        if args.raising:
            error = outcome(made).error
            found = {"raises": [repr(error)]} if error else {}
        else:
            found = complaints(made, only)
        if found:
            failures.append(seed)
            report(made, found, shrinks=not (args.no_shrink or args.raising))
        seed += 1
    print(f"{seed - args.seed} programs, seeds {args.seed} to {seed - 1}, {len(failures)} failures: {failures}")
    print(", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))
    return bool(failures)


def report(made, found, *, shrinks):
    if shrinks:
        made, found = shrink(made, found)
    print(f"\n# ---- seed {made.seed}: {', '.join(found)} ----\n{made.text()}")
    for name, lines in found.items():
        print(f"# {name}:")
        for line in lines[:6]:
            print(f"#     {line[:600]}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
