"""One file for each family of operators; importing this package registers them all."""

from opcount.formulas import (  # noqa: F401  (importing a family registers it)
    attention,
    collective,
    conv,
    deformable,
    dense,
    elementwise,
    embedding,
    fft,
    flash,
    fused_activation,
    fused_loss,
    fused_norm,
    linalg,
    loss,
    matmul,
    neighborhood,
    norm,
    optim,
    points,
    pool,
    quantized,
    reduction,
    resample,
    rnn,
    roi,
    scan,
    sparse,
    ssd,
    upfirdn,
    vision,
)
from opcount.formulas.rules import rule_for

__all__ = ["rule_for"]
