"""Fit: whether a count's allocations have room on a device, by a replay through the rules of its allocator."""

from __future__ import annotations

from opcount.fit.allocations import AllocationLog
from opcount.fit.verdict import Fit, check_device, fit_of

__all__ = ["AllocationLog", "Fit", "check_device", "fit_of"]
