"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import (
    elementwise,
    embedding,
    fft,
    linalg,
    loss,
    matmul,
    optim,
    reduction,
    rnn,
    sparse,
)
from opcount.formulas.rules import rule_for

__all__ = [
    "elementwise",
    "embedding",
    "fft",
    "linalg",
    "loss",
    "matmul",
    "optim",
    "reduction",
    "rnn",
    "rule_for",
    "sparse",
]
