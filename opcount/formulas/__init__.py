"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import matmul

__all__ = ["matmul"]
