"""Sizes of a toy that trainers train, and the clock that its steps move."""

from __future__ import annotations

from tests.meter.loops import HandClock

WIDTH, ROWS = 16, 8
BATCH_FLOPS = 2 * 2 * ROWS * WIDTH * WIDTH  # forward, and the gradient of the weight

NOW = HandClock()
"""A batch takes half a second, an evaluation much longer."""
