"""Callbacks of trainers are tested with a clock that is set by hand."""

from __future__ import annotations

import pytest

from opcount.clocks import HostClock
from tests.integrations.toy import NOW


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the clock of every meter."""
    monkeypatch.setattr("opcount.meter.clock_of", lambda _where: HostClock(NOW))
