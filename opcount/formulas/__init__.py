"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import (
    attention,
    conv,
    elementwise,
    embedding,
    fft,
    linalg,
    loss,
    matmul,
    norm,
    optim,
    pool,
    quantized,
    reduction,
    resample,
    rnn,
    sparse,
    vision,
)
from opcount.formulas.rules import rule_for

__all__ = [
    "attention",
    "conv",
    "elementwise",
    "embedding",
    "fft",
    "linalg",
    "loss",
    "matmul",
    "norm",
    "optim",
    "pool",
    "quantized",
    "reduction",
    "resample",
    "rnn",
    "rule_for",
    "sparse",
    "vision",
]
