"""Generated programs: one forward is one forward, every product is counted once, and nothing is left behind."""

from __future__ import annotations

import os

import pytest

from tests.generator.compare import CHECKS, complaints
from tests.generator.program import program

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
"""Warnings of PyTorch about the programs."""

CHUNKS, CHUNK = 10, 10
FIRST = int(os.environ.get("OPCOUNT_SEED", "0"))
"""The first seed: the same programs in every run, unless others are asked for."""

DRY = [name for name in CHECKS if "dry_run" in name]
REAL = [name for name in CHECKS if name not in DRY]


def check(seeds, checks):
    for seed in seeds:
        made = program(seed)
        found = complaints(made, checks)
        assert not found, f"python -m tests.generator --count 1 --seed {seed}\n{found}\n{made.text()}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_real_runs_of_programs(chunk):
    check(range(FIRST + chunk * CHUNK, FIRST + (chunk + 1) * CHUNK), REAL)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_dry_runs_of_programs(chunk):
    check(range(FIRST + chunk * CHUNK, FIRST + (chunk + 1) * CHUNK), DRY)
