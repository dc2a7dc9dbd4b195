"""Matrix products: one dot product of length ``k`` for each output element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcount.cost import Cost
from opcount.registry import aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from torch import Tensor


@formula(aten.mm, aten.bmm)
def mm(out: Tensor, a: Tensor, _b: Tensor, /, **_: object) -> Cost:
    """``out[..., m, n] = sum(a[..., m, k] * b[..., k, n] for k)``."""
    return Cost(out.numel() * a.shape[-1], 0, out.numel())


@formula(aten.addmm, aten.baddbmm)
def addmm(out: Tensor, _bias: Tensor, a: Tensor, _b: Tensor, /, **_: object) -> Cost:
    """``out[..., m, n] = bias[..., m, n] + sum(a[..., m, k] * b[..., k, n] for k)``; the bias is arithmetic."""
    outputs = out.numel()
    return Cost(outputs * a.shape[-1], outputs, outputs)
