"""Run the benchmarks: ``python scripts/bench [suite ...] [--case NAME ...] [--json FILE]``.

A ratio above 1 says that opcount is that many times faster. In ``scale`` a ratio of 1 is linear growth; a ratio
below 1 beside a limit exceeds it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch
from measure import Result, line, table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's opcount

SUITES = (
    "imports",
    "formulas",
    "overhead",
    "tracking",
    "modules",
    "afterwards",
    "analyses",
    "training",
    "every",
    "meters",
    "floors",
    "dryruns",
    "memory",
    "scale",
)


def main() -> None:
    """Run the chosen suites and print their table."""
    parser = argparse.ArgumentParser(prog="python scripts/bench", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--case", action="append", help="only this model or curve; may be repeated")
    parser.add_argument("--json", type=Path, help="write the results there, too")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"expected suites of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    results: list[Result] = []
    try:
        for suite in options.suites or SUITES:
            for result in importlib.import_module(suite).run(options.case):
                print(line(result), file=sys.stderr, flush=True)
                results.append(result)
    finally:  # what was measured is shown, whatever ends the rest
        print(table(results))
        if options.json:
            options.json.write_text(json.dumps([r._asdict() for r in results], indent=1) + "\n")

    sys.exit(any(result.reference.startswith("limit") and result.ratio < 1 for result in results))


if __name__ == "__main__":
    main()
