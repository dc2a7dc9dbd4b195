"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import elementwise, embedding, fft, loss, matmul, optim, reduction
from opcount.formulas.rules import rule_for

__all__ = ["elementwise", "embedding", "fft", "loss", "matmul", "optim", "reduction", "rule_for"]
