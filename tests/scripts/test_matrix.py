"""The counts that the matrix of versions compares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SMOKE = Path(__file__).parents[2] / "scripts" / "matrix" / "smoke.py"


def test_every_count_of_the_matrix_is_right_with_this_pytorch():
    done = subprocess.run([sys.executable, SMOKE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout + done.stderr
