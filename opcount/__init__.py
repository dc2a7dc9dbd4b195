"""Counts of what a PyTorch program computes: FLOPs, MACs, activations and parameters, by operator and by module.

Names are imported when they are first used, so that a profile can be read where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from opcount._version import __version__ as __version__

if TYPE_CHECKING:
    from opcount.budget import Budget, flop_budget
    from opcount.compat.mmengine import get_model_complexity_info
    from opcount.convention import Convention
    from opcount.cost import Cost
    from opcount.counter import OpCounter
    from opcount.devices import Device
    from opcount.errors import BudgetExceededError
    from opcount.meter import Meter
    from opcount.profile import Profile
    from opcount.registry import formula
    from opcount.shorthands import count, summary

_HOMES = {
    "Budget": "opcount.budget",
    "BudgetExceededError": "opcount.errors",
    "Convention": "opcount.convention",
    "Cost": "opcount.cost",
    "Device": "opcount.devices",
    "Meter": "opcount.meter",
    "OpCounter": "opcount.counter",
    "Profile": "opcount.profile",
    "count": "opcount.shorthands",
    "flop_budget": "opcount.budget",
    "formula": "opcount.registry",
    "get_model_complexity_info": "opcount.compat.mmengine",
    "summary": "opcount.shorthands",
}

__all__ = [
    "Budget",
    "BudgetExceededError",
    "Convention",
    "Cost",
    "Device",
    "Meter",
    "OpCounter",
    "Profile",
    "count",
    "flop_budget",
    "formula",
    "get_model_complexity_info",
    "summary",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'opcount' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
