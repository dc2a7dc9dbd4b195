"""Hold a program to what it may compute; nothing here imports torch before something is counted."""

from opcount.budget.budget import Budget
from opcount.budget.region import flop_budget
from opcount.budget.scaling import scaling

__all__ = ["Budget", "flop_budget", "scaling"]
