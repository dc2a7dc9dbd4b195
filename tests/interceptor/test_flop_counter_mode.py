"""Errors of torch.utils.flop_counter, and the right value beside it: the counter's, and the drop-in's."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (as everybody calls it)
from torch import nn
from torch.utils import flop_counter

from opcount import OpCounter
from opcount.compat import torch as drop_in
from tests.features import feature, require, runs_of_scan

RAISES = "raises"
randn = torch.randn


def encoder_layer():
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True).eval()
    with torch.no_grad():
        return layer(randn(2, 5, 16))


def multi_head_attention():
    attention, x = nn.MultiheadAttention(16, 2, batch_first=True).eval(), randn(2, 5, 16)
    with torch.no_grad():
        return attention(x, x, x, need_weights=False)


def attention():
    return F.scaled_dot_product_attention(randn(1, 2, 5, 4), randn(1, 2, 7, 4), randn(1, 2, 7, 4))


def quantized_linear():
    layer = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear}, torch.qint8)
    return layer(randn(3, 8))


def experts():
    ends = torch.tensor([2, 6], dtype=torch.int32)
    return F.grouped_mm(randn(6, 16).bfloat16(), randn(2, 16, 8).bfloat16(), offs=ends)


def int8_weights():
    weight, scales = torch.ones(32, 64, dtype=torch.int8), torch.ones(32).bfloat16()
    return torch._weight_int8pack_mm(randn(3, 64).bfloat16(), weight, scales)


def weight_gradient(groups):
    conv = nn.Conv2d(8, 8, 3, groups=groups, padding=1, bias=False)
    return torch.autograd.grad(conv(randn(1, 8, 6, 6)).sum(), conv.weight)


def cond():
    return torch.cond(torch.tensor(True), lambda x: x @ x[:, :3], lambda x: (x @ x) @ x[:, :3], (randn(8, 8),))


def ragged():
    return torch.nested.nested_tensor([randn(3, 4), randn(5, 4)], layout=torch.jagged)


def ragged_attention():
    require("attention of jagged nested tensors that does not crash on a CPU")
    q = ragged().unflatten(-1, (2, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q)


def int8_product():
    require("products of int8 on a CPU")
    return torch._int_mm(torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8))


def flex():
    q = randn(1, 2, 16, 8)
    return feature("torch.nn.attention.flex_attention.flex_attention")(q, q, q)


def scan():
    from torch._higher_order_ops.scan import scan  # noqa: PLC0415  (takes a second)

    return scan(lambda state, x: (state @ x, state @ x), torch.eye(3), randn(4, 3, 3))


def gradient_of_a_leaf():
    x = randn(3, 4, requires_grad=True)
    return torch.autograd.grad(nn.Linear(4, 5)(x).sum(), x)


class Row(NamedTuple):
    run: object
    macs: int
    arith: int | None = None  # where that is all there is, or the parts are worth telling apart
    wrong: int | str = 0  # FLOPs of FlopCounterMode, two for a MAC


ROWS = {
    "addbmm": Row(lambda: torch.addbmm(randn(2, 4), randn(5, 2, 3), randn(5, 3, 4)), 5 * 2 * 3 * 4),
    "mv": Row(lambda: randn(2, 3).mv(randn(3)), 2 * 3),
    "addmv": Row(lambda: torch.addmv(randn(2), randn(2, 3), randn(3)), 2 * 3),
    "3-D @ 1-D": Row(lambda: randn(2, 3, 4) @ randn(4), 2 * 3 * 4),
    "dot": Row(lambda: randn(5).dot(randn(5)), 5),
    "vdot": Row(lambda: randn(5).vdot(randn(5)), 5),
    "addr": Row(lambda: torch.addr(randn(2, 3), randn(2), randn(3)), 2 * 3),
    "bilinear": Row(lambda: nn.Bilinear(3, 4, 5)(randn(2, 3), randn(2, 4)), 2 * 5 * (3 * 4 + 4)),
    "cdist": Row(lambda: torch.cdist(randn(30, 4), randn(40, 4)), 30 * 40 * 4),
    "conv_tbc": Row(lambda: torch.conv_tbc(randn(7, 2, 3), randn(3, 3, 4), randn(4)), 5 * 2 * 3 * 3 * 4),
    "addmm_": Row(lambda: randn(2, 4).addmm_(randn(2, 3), randn(3, 4)), 2 * 3 * 4),
    "baddbmm_": Row(lambda: randn(5, 2, 4).baddbmm_(randn(5, 2, 3), randn(5, 3, 4)), 5 * 2 * 3 * 4),
    "CPU attention": Row(attention, 2 * 5 * 7 * (4 + 4)),
    "multi-head attention": Row(multi_head_attention, 2 * (5 * 4 * 16 * 16 + 2 * 5 * 5 * 16)),
    "encoder layer": Row(encoder_layer, 2 * (5 * (4 * 16 * 16 + 2 * 16 * 24) + 2 * 5 * 5 * 16)),
    "CPU LSTM": Row(lambda: nn.LSTM(3, 4)(randn(5, 2, 3)), 5 * 2 * 4 * 4 * (3 + 4)),
    "_int_mm": Row(int8_product, 32 * 16 * 8),
    "_grouped_mm": Row(experts, 6 * 16 * 8),  # each row meets the weight of its own expert only
    "int8 weights": Row(int8_weights, 3 * 64 * 32),
    "quantized linear": Row(quantized_linear, 3 * 8 * 4),
    "sparse.mm": Row(lambda: torch.sparse.mm(torch.eye(4).to_sparse(), randn(4, 5)), 4 * 5),  # nnz x n
    "FFT": Row(lambda: torch.fft.fft(randn(8, dtype=torch.complex64)), 0, 5 * 8 * 3),  # 5 n log2 n
    "cholesky": Row(lambda: torch.linalg.cholesky(torch.eye(6)), 6**3 // 6),
    "complex": Row(
        lambda: randn(2, 3, dtype=torch.complex64) @ randn(3, 4, dtype=torch.complex64), 4 * 24, wrong=2 * 24
    ),
    "csr @ dense": Row(lambda: torch.eye(4).to_sparse_csr() @ randn(4, 5), 4 * 5, wrong=2 * 4 * 4 * 5),
    "grouped convolution": Row(lambda: weight_gradient(4), 2 * 36 * 8 * 2 * 9, wrong=2 * 36 * 8 * (2 + 8) * 9),
    "depthwise convolution": Row(lambda: weight_gradient(8), 2 * 36 * 8 * 1 * 9, wrong=2 * 36 * 8 * (1 + 8) * 9),
    "cond": Row(cond, 8 * 8 * 3, wrong=2 * (8 * 8 * 8 + 8 * 8 * 3)),
    "nested linear": Row(lambda: F.linear(ragged(), randn(6, 4)), (3 + 5) * 4 * 6, wrong=RAISES),
    "nested attention": Row(ragged_attention, 2 * (3 * 3 + 5 * 5) * (2 + 2), wrong=RAISES),
    "flex_attention": Row(flex, 2 * 16 * 16 * (8 + 8), wrong=RAISES),
    "scan": Row(scan, runs_of_scan(4) * 2 * 3 * 3 * 3, wrong=RAISES),
    "autograd.grad to a leaf": Row(gradient_of_a_leaf, 2 * 3 * 4 * 5, wrong=RAISES),
    "jacrev": Row(lambda: torch.func.jacrev(nn.Linear(4, 5))(randn(3, 4)), 3 * 4 * 5 * (1 + 3 * 5), wrong=RAISES),
}


@pytest.mark.filterwarnings("ignore")  # of prototypes: nested and sparse layouts, quantization
@pytest.mark.parametrize("name", ROWS)
def test_the_right_value_beside_the_one_that_flop_counter_mode_gives(name):
    row = ROWS[name]
    with OpCounter() as c:
        row.run()
    assert c.macs == row.macs
    if row.arith is not None:
        assert c.arith == row.arith
    assert c.coverage.complete
    assert flops_of(drop_in, row.run) == 2 * c.macs
    if torch.__version__.startswith("2.13."):  # another version may be wrong in another way
        assert flops_of(flop_counter, row.run) == row.wrong
        torch.compiler.reset()  # dynamo would compile no function again that it met under this mode


def flops_of(package, run):
    counter = package.FlopCounterMode(display=False)
    try:
        with counter:
            run()
    except (RuntimeError, TypeError):
        return RAISES
    return counter.get_total_flops()
