"""The sentinel for results that a dry run does not know."""

from __future__ import annotations

from typing import Any

UNKNOWN: Any = NotImplemented
"""Returned where PyTorch has to be asked what a call returns."""
