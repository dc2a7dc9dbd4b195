"""Under inference_mode PyTorch shows composite operators whole; what they compute is the same."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the programs use it)

from opcount import Cost, OpCounter
from tests.features import custom_op, require, skipped_without_kernel

torch.manual_seed(0)
A = torch.randn
X2, X3, X4 = A(6, 8), A(2, 6, 8), A(2, 4, 8, 8)
Z = torch.zeros
IDS = torch.arange(6)
HEADS = A(2, 4, 6, 8)
LSTM, GRU, RNN = nn.LSTM(8, 5, 2, bidirectional=True), nn.GRU(8, 5), nn.RNN(8, 5)
PROJECTED = nn.LSTM(8, 6, proj_size=3)
LSTM_CELL, GRU_CELL = nn.LSTMCell(8, 5), nn.GRUCell(8, 5)
WEIGHT = nn.Parameter(A(5, 8))
STEPS = A(5, 3, 8)
PACKED = nn.utils.rnn.pack_padded_sequence(STEPS, [5, 3, 2])
MHA = nn.MultiheadAttention(8, 2, batch_first=True)
FAST = nn.MultiheadAttention(8, 2, batch_first=True).eval()
ENCODER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
DECODER = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

PROGRAMS = """
F.linear(X2, A(5, 8), A(5))
F.linear(X3, A(5, 8))
F.linear(X2[0], A(5, 8), A(5))
F.linear(X3.transpose(0, 1), A(5, 8), A(5))
F.linear(X3.transpose(0, 1), WEIGHT)
X3.transpose(0, 1) @ WEIGHT.t()
torch.einsum("bij,kj->bik", X3.transpose(0, 1), WEIGHT)
F.bilinear(X2, X2, A(3, 8, 8), A(3))
A(8) @ A(8)
A(8) @ A(8, 3)
A(3, 8) @ A(8)
A(3, 8) @ A(8, 2)
A(2, 3, 8) @ A(8)
A(2, 3, 8) @ A(8, 2)
A(2, 3, 8) @ A(2, 8, 2)
A(8) @ A(2, 8, 3)
A(3, 8) @ A(2, 8, 3)
A(2, 1, 3, 8) @ A(1, 4, 8, 2)
A(4, 2, 3, 8) @ A(8, 2)
torch.mv(A(3, 8), A(8))
torch.dot(A(8), A(8))
torch.vdot(A(8), A(8))
torch.outer(A(3), A(4))
torch.inner(A(3, 8), A(4, 8))
torch.tensordot(A(3, 4, 5), A(4, 5, 6), 2)
torch.einsum("ij,jk->ik", A(3, 4), A(4, 5))
torch.einsum("bij,bjk,bkl->bil", A(2, 3, 4), A(2, 4, 5), A(2, 5, 6))
torch.einsum("bii->b", A(2, 3, 3))
torch.einsum("i,j->ij", A(3), A(4))
torch.linalg.multi_dot([A(3, 4), A(4, 5), A(5, 6)])
torch.chain_matmul(A(3, 4), A(4, 5), A(5, 6))
torch.matrix_power(A(4, 4), 3)
torch.kron(A(2, 3), A(4, 5))
torch.addmm(A(5), X2, A(8, 5))
torch.addbmm(A(3, 4), A(2, 3, 5), A(2, 5, 4))
torch.baddbmm(A(2, 3, 4), A(2, 3, 5), A(2, 5, 4))
torch.addmv(A(3), A(3, 4), A(4))
torch.addr(A(3, 4), A(3), A(4))
torch.cdist(A(30, 8), A(30, 8))
torch.cdist(A(3, 8), A(4, 8), p=1)
F.pdist(A(4, 8))
F.cosine_similarity(X2, X2)
F.pairwise_distance(X2, X2)
F.conv1d(X3, A(4, 6, 3), A(4))
F.conv1d(X3, A(4, 6, 3), padding="same", dilation=2)
F.conv2d(X4, A(6, 4, 3, 3), A(6), stride=2, padding=1)
F.conv2d(X4, A(6, 4, 3, 3), padding="same")
F.conv2d(X4, A(6, 4, 2, 2), padding="same")
F.conv2d(X4, A(6, 4, 3, 3), padding="valid")
F.conv2d(X4, A(4, 2, 3, 3), groups=2)
F.conv2d(X4, A(4, 1, 3, 3), groups=4)
F.conv2d(X4, A(4, 4, 3, 3), dilation=2)
F.conv2d(X4[0], A(6, 4, 3, 3))
F.conv3d(A(1, 2, 5, 5, 5), A(3, 2, 3, 3, 3))
F.conv_transpose1d(X3, A(6, 4, 3))
F.conv_transpose2d(X4, A(4, 6, 3, 3), stride=2, groups=2)
F.conv_transpose3d(A(1, 2, 5, 5, 5), A(2, 3, 3, 3, 3))
torch.conv_tbc(A(5, 2, 3), A(3, 3, 4), A(4), 1)
F.batch_norm(X4, Z(4), A(4) ** 2, A(4), A(4), True)
F.batch_norm(X4, Z(4), A(4) ** 2, A(4), A(4))
F.batch_norm(X4, Z(4), A(4) ** 2)
F.layer_norm(X3, (8,), A(8), A(8))
F.group_norm(X4, 2, A(4), A(4))
F.instance_norm(X4, weight=A(4), bias=A(4))
F.instance_norm(X4, Z(4), A(4) ** 2)
F.rms_norm(X3, (8,), A(8))
F.local_response_norm(X4, 2)
F.normalize(X3)
F.scaled_dot_product_attention(HEADS, HEADS, HEADS)
F.scaled_dot_product_attention(HEADS, HEADS, HEADS, is_causal=True)
F.scaled_dot_product_attention(HEADS, HEADS, HEADS, attn_mask=torch.ones(6, 6).bool().tril())
F.scaled_dot_product_attention(HEADS, HEADS, HEADS, attn_mask=A(6, 6))
F.scaled_dot_product_attention(HEADS, HEADS, HEADS, scale=0.5)
F.scaled_dot_product_attention(HEADS, HEADS, HEADS, dropout_p=0.5)
F.scaled_dot_product_attention(HEADS, A(2, 4, 9, 8), A(2, 4, 9, 8))
F.scaled_dot_product_attention(HEADS, HEADS, A(2, 4, 6, 5))
F.scaled_dot_product_attention(HEADS, HEADS[:, :2], HEADS[:, :2], enable_gqa=True)
F.scaled_dot_product_attention(X3, X3, X3)
LSTM(STEPS)[0]
LSTM(PACKED)[0].data
PROJECTED(STEPS)[0]
GRU(STEPS)[0]
GRU(PACKED)[0].data
RNN(STEPS)[0]
LSTM_CELL(STEPS[0])[0]
GRU_CELL(STEPS[0])
MHA(X3, X3, X3)[0]
MHA(X3, X3, X3, need_weights=False)[0]
MHA(X3, A(2, 3, 8), A(2, 3, 8))[0]
FAST(X3, X3, X3, need_weights=False)[0]
ENCODER.eval()(X3)
ENCODER.eval()(X3, src_key_padding_mask=Z(2, 6).bool())
DECODER(X3, X3)
F.embedding(IDS, A(6, 3))
F.embedding_bag(IDS, A(6, 3), torch.tensor([0, 2]))
F.embedding_bag(IDS.view(2, 3), A(6, 3), mode="max")
F.one_hot(IDS)
F.interpolate(X4, scale_factor=2, mode="nearest")
F.interpolate(X4, scale_factor=2, mode="nearest-exact")
F.interpolate(X4, scale_factor=2, mode="bilinear")
F.interpolate(X4, scale_factor=2, mode="bicubic")
F.interpolate(X4, scale_factor=2, mode="area")
F.interpolate(X3, scale_factor=2, mode="linear")
F.interpolate(A(1, 2, 3, 3, 3), scale_factor=2, mode="trilinear")
F.interpolate(X4, (4, 4), mode="bilinear", antialias=True)
F.pixel_shuffle(X4, 2)
F.grid_sample(X4, A(2, 5, 5, 2))
F.pad(X4, (1, 1, 1, 1), "constant")
F.pad(X4, (1, 1, 1, 1), "reflect")
F.pad(X4, (1, 1, 1, 1), "replicate")
F.pad(X4, (1, 1, 1, 1), "circular")
F.max_pool1d(X3, 2)
F.max_pool2d(X4, 2)
F.max_pool2d(X4, 2, return_indices=True)[0]
F.max_pool3d(A(1, 1, 4, 4, 4), 2)
F.avg_pool1d(X3, 2)
F.avg_pool2d(X4, 2)
F.adaptive_avg_pool1d(X3, 2)
F.adaptive_avg_pool2d(X4, 3)
F.adaptive_avg_pool2d(X4, 1)
F.adaptive_max_pool1d(X3, 2)
F.adaptive_max_pool2d(X4, 2)
F.lp_pool2d(X4, 2, 2)
F.fractional_max_pool2d(X4, 2, 3)
F.unfold(X4, 3)
F.fold(A(1, 18, 9), (5, 5), 3)
F.relu(X2)
F.relu6(X2)
F.gelu(X2)
F.silu(X2)
F.mish(X2)
F.elu(X2)
F.selu(X2)
F.celu(X2)
F.glu(X2)
F.leaky_relu(X2)
F.rrelu(X2)
F.prelu(X2, A(1))
F.hardswish(X2)
F.hardtanh(X2)
F.hardsigmoid(X2)
F.softplus(X2)
F.softsign(X2)
F.tanhshrink(X2)
F.logsigmoid(X2)
F.softshrink(X2)
F.softmax(X2, -1)
F.log_softmax(X2, -1)
F.gumbel_softmax(X2)
F.dropout(X2)
F.dropout2d(X4)
F.alpha_dropout(X2)
F.cross_entropy(X2, IDS)
F.cross_entropy(X2, X2.softmax(-1))
F.cross_entropy(X2, IDS, label_smoothing=0.1)
F.cross_entropy(X4, Z(2, 8, 8).long())
F.mse_loss(X2, A(6, 8))
F.l1_loss(X2, A(6, 8))
F.smooth_l1_loss(X2, A(6, 8))
F.binary_cross_entropy(X2.sigmoid(), X2.sigmoid())
F.binary_cross_entropy_with_logits(X2, X2.sigmoid())
F.kl_div(X2.log_softmax(-1), X2.softmax(-1))
F.cosine_embedding_loss(X2, X2, torch.ones(6))
F.hinge_embedding_loss(X2, X2.sign())
F.margin_ranking_loss(X2, X2, X2.sign())
F.triplet_margin_loss(X2, X2, A(6, 8))
F.multilabel_soft_margin_loss(X2, X2.sigmoid())
F.multi_margin_loss(X2, IDS)
F.poisson_nll_loss(X2, X2)
F.gaussian_nll_loss(X2, X2, X2.exp())
F.ctc_loss(A(10, 2, 5).log_softmax(-1), torch.ones(2, 3).long(), torch.tensor([10, 10]), torch.tensor([3, 3]))
torch.fft.fft(X2)
torch.fft.rfft(X2)
torch.fft.fft2(X2)
torch.stft(A(100), 16, return_complex=True, window=torch.ones(16))
torch.linalg.inv(A(4, 4))
torch.linalg.det(A(4, 4))
torch.linalg.solve(A(4, 4), A(4, 2))
torch.linalg.svdvals(A(4, 4))
torch.linalg.norm(X2)
torch.linalg.pinv(A(4, 3))
torch.linalg.vecdot(X2, X2)
torch.linalg.cross(A(4, 3), A(4, 3))
torch.matrix_exp(A(4, 4))
X2.std()
X2.median()
torch.quantile(X2, 0.5)
X2.logsumexp(0)
X2.diff()
X2.tile(2)
X2.roll(1)
torch.where(X2 > 0, X2, 0.0)
torch.isclose(X2, X2)
torch.cov(X2)
torch.corrcoef(X2)
torch.trapezoid(X2)
torch.lerp(X2, X2, 0.5)
torch.view_as_complex(A(3, 4, 2)) @ torch.view_as_complex(A(4, 5, 2))
""".strip().splitlines()

AUTOCAST_INSIDE = {"torch.linalg.pinv(A(4, 3))"}
"""A kernel that calls a product without being composite: PyTorch keeps autocast from it under any dispatch mode."""

ASK_FOR_MODES = ("MHA", "DECODER", "torch.linalg.svdvals")
"""Kernels that take another path, and round differently, when any dispatch mode is active."""


def run(program, mode):
    torch.manual_seed(0)
    with mode():
        return eval(compile(program, __file__, "eval"))  # noqa: S307  (the programs above)


def counted(program, mode):
    with OpCounter(strict=True) as counter:
        out = run(program, mode)
    return out, (counter.macs, counter.activations, counter.arith)


def paused(program, mode):
    with OpCounter() as counter:
        counter.pause()
        out = run(program, mode)
    assert not counter.profile.records
    return out


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_product_with_a_weight_is_folded_as_without_a_counter(mode):
    x, weight = torch.randn(3, 33, 16).transpose(0, 1), nn.Parameter(torch.randn(8, 16))
    with mode():
        bare = F.linear(x, weight)
        with OpCounter() as counter:
            counted = F.linear(x, weight)
    assert torch.equal(counted, bare)
    assert {name for name, total in counter.by_operator().items() if total.macs} == {"aten.mm.default"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("counters", [1, 2])
def test_a_bilinear_module_computes_under_autocast_as_without_a_counter(dtype, counters):
    if dtype is torch.float16:
        require("autocast to float16 on a CPU")
    model, x = nn.Bilinear(8, 7, 5), torch.randn(33, 8, requires_grad=True)
    y = torch.randn(33, 7)
    with torch.autocast("cpu", dtype):
        bare = model(x, y)
        with ExitStack() as stack:
            nested = [stack.enter_context(OpCounter(model, strict=True)) for _ in range(counters)]
            found = model(x, y)
    assert torch.equal(found, bare)
    assert torch.equal(*(torch.autograd.grad(out.float().sum(), x)[0] for out in (found, bare)))
    # x with the weight, then with y
    assert [counter.macs for counter in nested] == [33 * 5 * (8 * 7 + 7)] * counters


@pytest.mark.parametrize("counters", [1, 2])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("train", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("add", [False, True], ids=["mm", "addmm"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_sparse_product_computes_under_autocast_as_without_a_counter(layout, counters, train, add):
    """PyTorch has no kernel for CSR in bfloat16: under a counter it says so as well."""

    def run(*contexts):
        weight = torch.eye(8).to_sparse(layout=layout).requires_grad_(train)
        x = torch.arange(32.0).reshape(8, 4).div(7).requires_grad_(train)
        try:
            with torch.autocast("cpu", torch.bfloat16), ExitStack() as stack:
                for context in contexts:
                    stack.enter_context(context)
                out = torch.sparse.addmm(torch.ones(8, 4), weight, x) if add else torch.sparse.mm(weight, x)
                if train:
                    out.float().square().sum().backward()
        except RuntimeError as error:  # a NotImplementedError since 2.8
            return str(error)
        return [t.to_dense() for t in (out.detach(), *((x.grad, weight.grad) if train else ()))]

    nested = [OpCounter() for _ in range(counters)]
    bare, found = run(), run(*nested)
    if isinstance(bare, str):
        assert found == bare
        return
    assert [t.dtype for t in found] == [t.dtype for t in bare]
    assert all(map(torch.equal, found, bare))
    # forward: a row of x for each of 8 stored numbers; backward: as much for x, and a dense product for the weight
    assert [counter.macs for counter in nested] == [8 * 4 + train * (8 * 4 + 8 * 4 * 8)] * counters


def test_a_custom_operator_with_a_formula_computes_under_autocast_as_without_a_counter():
    @custom_op("inference_tests::product", mutates_args=())
    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b).float()

    a, b = torch.randn(9, 33), torch.randn(33, 7)
    with torch.autocast("cpu", torch.bfloat16):
        bare = product(a, b)
        formulas = {"inference_tests::product": lambda out, *_: Cost(macs=out.numel())}
        with OpCounter(formulas=formulas) as outer, OpCounter(formulas=formulas) as inner:
            found = product(a, b)
    assert torch.equal(found, bare)
    assert outer.macs == inner.macs == 9 * 7


@pytest.mark.filterwarnings("ignore")  # of operators that PyTorch calls deprecated or experimental
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_counts_the_same_in_every_mode_and_computes_what_it_does_bare(program, autocast):
    if "enable_gqa" in program:
        require("attention of shared heads")
    if autocast and program.startswith("ENCODER"):
        require("a fast path under autocast on a CPU")
    if autocast and program.startswith("FAST("):
        require("attention's fast path under autocast on a CPU")
    if autocast and "attn_mask" in program:
        require("attention that adds a mask as without a mode")
    modes = (torch.no_grad, torch.inference_mode, torch.enable_grad)
    with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
        with skipped_without_kernel():
            expected = [run(program, mode) for mode in modes]
        found, totals = zip(*(counted(program, mode) for mode in modes), strict=True)
        unseen = [paused(program, mode) for mode in modes]
    assert totals[0] == totals[1] == totals[2]
    if autocast and program in AUTOCAST_INSIDE:
        return
    for mode, bare, *outs in zip(modes, expected, found, unseen, strict=True):
        asks = mode is not torch.inference_mode and program.startswith(ASK_FOR_MODES)
        for out in outs:
            torch.testing.assert_close(out, bare, **{} if asks else {"rtol": 0, "atol": 0}, equal_nan=True)


STRIDED = A(4, 3, 8, 5).transpose(1, 3)
ASKING = {
    "max_pool1d": lambda x: F.max_pool1d(x[0], 3, 1, 1),
    "max_pool1d of one": lambda x: F.max_pool1d(x[0, 0], kernel_size=2, ceil_mode=True),
    "svdvals": torch.linalg.svdvals,
    "eigvalsh": lambda x: torch.linalg.eigvalsh(x @ x.mT, UPLO="U"),
    "cond": torch.linalg.cond,
    "nuclear norm": lambda x: torch.linalg.norm(x[0, 0], "nuc"),
    "spectral norm": lambda x: torch.linalg.matrix_norm(x, 2),
    "rank": torch.linalg.matrix_rank,
    "a batch with one matrix": lambda x: x[0] @ x[:1, 0].mT,
    "a complex batch with one matrix": lambda x: x[0].to(torch.complex64) @ x[:1, 0].mT.to(torch.complex64),
}


@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize(
    "x", [STRIDED, A(2, 3, 4, 6), A(1, 3, 4, 6).expand(2, -1, -1, -1)], ids=["strided", "contiguous", "expanded"]
)
@pytest.mark.parametrize("name", ASKING)
def test_a_kernel_that_asks_for_modes_finds_none_under_inference_mode(name, x, autocast):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        bare = ASKING[name](x)
        with OpCounter(strict=True) as outer, OpCounter() as inner:
            out = ASKING[name](x)
    torch.testing.assert_close(out, bare, rtol=0, atol=0, check_stride=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast), OpCounter() as expected:
        ASKING[name](x)
    assert outer.profile.records == inner.profile.records
    assert (outer.macs, outer.arith, outer.activations) == (expected.macs, expected.arith, expected.activations)


def test_a_kernel_that_asks_for_modes_is_charged_for_what_its_operands_are():
    with torch.inference_mode(), OpCounter(convention="full") as counter:
        for _ in range(2):
            F.max_pool1d(A(1, 1, 6), 3, 1)
        F.max_pool1d(A(1, 1, 6), 3, 3)
    assert counter.flops == 2 * 4 * 3 + 2 * 3  # twice 4 windows, then 2, of 3 elements each
    assert {name: total.calls for name, total in counter.by_operator().items() if total.arith} == {
        "aten.max_pool2d_with_indices.default": 3
    }


def test_a_paused_counter_and_one_with_a_formula_of_its_own_charge_no_steps():
    formulas = {"aten.max_pool2d_with_indices": lambda *_, **__: Cost(macs=5)}
    with torch.inference_mode(), OpCounter(formulas=formulas) as counter:
        F.max_pool1d(A(1, 1, 6), 3, 1)
        counter.pause()
        F.max_pool1d(A(1, 1, 6), 3, 1)
    assert counter.macs == 5
