"""Run the script, or count modules, for several targets in one process: importing OpenMMLab packages is what is slow.

Reads a list of jobs as JSON, ``["report", [arguments]]`` or ``["modules", target]``, and writes a list of results:
``[status, output, errors]``, or ``[FLOPs by module, activations by module, params]``.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from opcount.compat.mmengine import ActivationAnalyzer, FlopAnalyzer, parameter_count
from opcount.loaders import load
from tests.scripts.command import import_script


def report(arguments: list[str]) -> tuple[int, str, str]:
    """Run the script with these arguments."""
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
        status = import_script().main(arguments)
    return status, output.getvalue(), errors.getvalue()


def modules(target: str) -> tuple[dict[str, int], dict[str, int], int]:
    """Count what every module of a target's model computes."""
    loaded = load(target)
    activations = ActivationAnalyzer(loaded.model, loaded.inputs)
    flops = FlopAnalyzer(loaded.model, loaded.inputs).analyze(activations)
    return flops.by_module(), activations.by_module(), parameter_count(loaded.model)[""]


if __name__ == "__main__":
    results = [globals()[job](argument) for job, argument in json.load(sys.stdin)]
    json.dump(results, sys.stdout)
