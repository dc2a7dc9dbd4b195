"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import matmul
from opcount.formulas.rules import rule_for

__all__ = ["matmul", "rule_for"]
