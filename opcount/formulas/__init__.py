"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import attention, conv, matmul, norm, pool, resample
from opcount.formulas.rules import rule_for

__all__ = ["attention", "conv", "matmul", "norm", "pool", "resample", "rule_for"]
