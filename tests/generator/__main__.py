"""Generate programs and check them: ``python -m tests.generator --minutes 30 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import torch

from tests.generator.compare import complaints
from tests.generator.program import program
from tests.generator.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generator", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the next has the next")
    parser.add_argument("--count", type=int, help="stop after so many programs")
    parser.add_argument("--minutes", type=float, default=1, help="stop after this time (default: 1)")
    parser.add_argument("--without", default="", help="parts and actions to leave out, separated by commas")
    parser.add_argument("--only", help="the one check to make")
    parser.add_argument("--show", action="store_true", help="print the program and stop")
    parser.add_argument("--no-shrink", action="store_true", help="print failing programs as they are")
    args = parser.parse_args()
    torch.set_num_threads(1)
    without = set(filter(None, args.without.split(",")))
    if args.show:
        print(program(args.seed, without).text())
        return 0
    end, seed, failures, kinds = time.monotonic() + 60 * args.minutes, args.seed, [], Counter()
    while time.monotonic() < end and (args.count is None or seed < args.seed + args.count):
        made = program(seed, without)
        kinds.update(made.names)
        found = complaints(made, args.only)
        if found:
            failures.append(seed)
            report(made, found, shrinks=not args.no_shrink)
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
