"""Detectors of mmdetection over the compiled operators of mmcv, against mmdetection's own script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shims
from tests.compat import reference

TABLE = json.loads((reference.REFERENCE / "mmdet_flops.json").read_text("utf-8"))
"""By config: ``script``, what the script says; ``kernels``, the MACs of deformable convolutions, which it leaves out;
``more``, what it leaves out besides; ``dry``, whether a dry run counts the config."""


WALKED = json.loads((reference.REFERENCE / "mmdet_walk.json").read_text("utf-8"))
"""Configs of mmdet 3.3 in a dry run, by what is missing, and the folders that they are in."""

DOCS = (shims.ROOT / "docs" / "drop-ins.md").read_text("utf-8")


def shown(flops: int) -> str:
    return f"{flops / 1e6:,.3f}"


@pytest.mark.parametrize("config", TABLE)
def test_the_table_in_the_docs_is_the_committed_one(config):
    row = TABLE[config]
    left_out = row["kernels"] + row["more"]
    cells = [f"`{config}`", shown(row["script"]), shown(row["script"] + left_out), shown(left_out) if left_out else ""]
    pattern = r"\| " + r" +\| +".join(map(re.escape, cells)) + r" *\|"
    assert re.search(pattern, DOCS)


def test_the_table_of_refusals_in_the_docs_is_the_committed_one():
    numbers = [row["configs"] for row in WALKED.values()]
    counted = WALKED["counted"]["configs"]
    assert f"Of the {sum(numbers)} configs that mmdet 3.3 ships, a dry run counts {counted} " in DOCS
    shown_numbers = [int(number) for number in re.findall(r"(?m)^\| (\d+) \|", DOCS)]
    assert sorted([*shown_numbers, counted]) == sorted(numbers)


@pytest.mark.slow
@pytest.mark.skipif(not shims.mmcv_is_compiled(), reason="the operators of mmcv are not compiled")
@pytest.mark.parametrize("config", TABLE)
def test_a_detector_counts_what_the_script_does_and_the_closed_form_of_what_it_leaves_out(config):
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("detectors.py")), config]
    process = subprocess.run(command, env=shims.child_environment(), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found, expected = json.loads(process.stdout)[config], TABLE[config]
    assert (found["script"], found["kernels"]) == (expected["script"], expected["kernels"])
    assert found["flops"] == expected["script"] + expected["kernels"] + expected["more"]
    assert found["macs"] == found["executed"] + found["kernels"]
    if expected["dry"]:
        assert found["dry"] == found["flops"]
    else:
        assert re.search(r"needs the values of its inputs|cannot run on fake tensors", found["dry"])
