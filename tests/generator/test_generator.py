"""Generated programs: one forward is one forward, every product is counted once, and nothing is left behind."""

from __future__ import annotations

import os
import random

import pytest

from tests.generator.compare import complaints
from tests.generator.program import program

WITHOUT = {"batch_norm", "caught", "encoder", "recurrent"}
"""Faults of theirs are known, and being mended."""

CHUNKS, CHUNK = 12, 10
FRESH = int(os.environ.get("OPCOUNT_SEED", random.SystemRandom().randrange(10**6)))
"""Of programs that no run has seen before; the name of a failing test says which."""


def check(seeds):
    for seed in seeds:
        made = program(seed, WITHOUT)
        found = complaints(made)
        assert not found, f"python -m tests.generator --count 1 --seed {seed}\n{found}\n{made.text()}"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_programs_of_fixed_seeds(chunk):
    check(range(chunk * CHUNK, (chunk + 1) * CHUNK))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_programs_that_nobody_has_seen():
    check(range(FRESH, FRESH + CHUNK))
