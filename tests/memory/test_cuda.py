"""Live bytes that a dry run predicts for a CUDA device, which is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from opcount import Device, OpCounter
from opcount.dryrun.cuda_attention import CUDNN, EFFICIENT, FLASH, MATH, AttentionCall, attention_kernel
from opcount.errors import CounterStateError, DeviceError
from tests.features import needs
from tests.memory.models import MODELS, training

if TYPE_CHECKING:
    from opcount.live_memory import LiveMemory

pytestmark = needs("the operators that PyTorch 2.13 chooses on CUDA")

BF16, HALF, FLOAT = torch.bfloat16, torch.float16, torch.float32


class Layer(nn.Module):
    """A layer as Korthikanti et al. (2022) count it."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, h = x.shape
        y = self.ln1(x)
        q, k, v = (f(y).view(b, s, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
        else:
            weights = torch.softmax((q @ k.transpose(-2, -1)) * (h // self.heads) ** -0.5, -1)
            y = functional.dropout(weights, 0.1) @ v
        x = x + functional.dropout(self.out(y.transpose(1, 2).reshape(b, s, h)), 0.1)
        return x + functional.dropout(self.down(functional.gelu(self.up(self.ln2(x)))), 0.1)


SHAPES = [(2, 16, 32, 4), (1, 64, 64, 8), (3, 8, 16, 2), (2, 24, 48, 3), (5, 40, 96, 6)]


def predicted(model: nn.Module, run: Any, device: str | Device = "H100-SXM5") -> LiveMemory:
    """Return the live bytes of a program on a device."""
    with OpCounter(model, dry_run=True, memory=True, device=device) as c:
        run()
    return c.memory


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("b", "s", "h", "a"), SHAPES)
def test_a_layer_saves_what_korthikanti_says(b: int, s: int, h: int, a: int, fused: bool) -> None:
    model = nn.Sequential(Layer(h, a, fused=fused)).bfloat16()
    x = torch.randn(b, s, h, dtype=BF16, requires_grad=True)
    memory = predicted(model, lambda: model(x * 1).sum().backward())
    statistics, one = 2 * 2 * 4 * b * s, 2  # a mean and a deviation in float32, of two norms; the gradient 1
    seed = 16 + 8  # of the random numbers in fused attention
    scores = 4 * a * b * s + seed if fused else 5 * a * s * s * b
    assert sum(row.bytes for row in memory.saved) == 34 * s * b * h + scores + statistics + one
    dropped = memory.saved_by_operator()["aten.native_dropout.default"]  # masks, and the scores that a product reads
    assert dropped == 2 * s * b * h + (0 if fused else 3 * a * s * s * b)


def test_mixed_precision_takes_sixteen_bytes_a_parameter() -> None:
    """ZeRO's count: parameters and gradients of two bytes; a copy, a mean and a variance of four."""
    width, depth = 64, 5
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth))).bfloat16()
    copies = [nn.Parameter(p.detach().float()) for p in model.parameters()]
    optimizers = [torch.optim.AdamW([copy], fused=True) for copy in copies]
    x = torch.randn(1, width, dtype=BF16)

    def run() -> None:
        for _ in range(2):
            model(x).sum().backward()
            for p, copy, optimizer in zip(model.parameters(), copies, optimizers, strict=True):
                copy.grad = p.grad.float()
                optimizer.step()
                copy.grad = None
                with torch.no_grad():
                    p.copy_(copy)

    memory = predicted(model, run)
    one, scalars = width * width, 4 * depth  # the gradient of one copy at a time; each counts its steps
    assert memory.phase_peaks["optimizer"] == 16 * depth * one + 4 * one + x.nbytes + scalars


@pytest.mark.parametrize(
    ("call", "capability", "kernel"),
    [
        ({}, (8, 0), FLASH),
        ({}, (9, 0), CUDNN),
        ({}, (10, 0), CUDNN),
        ({}, (7, 5), MATH),  # no bfloat16
        ({"dtype": HALF}, (7, 5), EFFICIENT),
        ({"dtype": FLOAT}, (9, 0), EFFICIENT),
        ({"dtype": FLOAT, "size": 6}, (9, 0), MATH),
        ({"dtype": FLOAT, "size": 6}, (7, 0), EFFICIENT),
        ({"dtype": torch.float64}, (9, 0), MATH),
        ({"dropout_p": 0.1}, (9, 0), FLASH),  # cuDNN knows sixteenths
        ({"dropout_p": 0.125}, (9, 0), CUDNN),
        ({"size": 12}, (9, 0), FLASH),  # padded
        ({"size": 160}, (9, 0), FLASH),
        ({"size": 264}, (9, 0), EFFICIENT),
        ({"size": 256, "grad": True, "dropout_p": 0.1}, (8, 6), EFFICIENT),
        ({"size": 256, "grad": False, "dropout_p": 0.1}, (8, 6), FLASH),
        ({"mask": (5, 7)}, (8, 0), EFFICIENT),
        ({"mask": (5, 7)}, (9, 0), CUDNN),
        ({"mask": (2, 1, 5, 7)}, (9, 0), CUDNN),
        ({"mask": (4, 5, 7)}, (9, 0), EFFICIENT),
        ({"is_causal": True}, (8, 0), EFFICIENT),  # five queries, seven keys
        ({"is_causal": True, "keys": 5}, (8, 0), FLASH),
        ({"heads": 2, "enable_gqa": True}, (8, 0), FLASH),
        ({"heads": 2, "enable_gqa": True, "mask": (5, 7)}, (8, 0), MATH),
        ({"heads": 2, "enable_gqa": True, "mask": (5, 7)}, (9, 0), CUDNN),
        ({"keys": 1}, (9, 0), FLASH),
    ],
)  # fmt: skip
def test_attention_runs_the_kernel_that_pytorch_chooses(
    call: dict[str, Any], capability: tuple[int, int], kernel: int
) -> None:
    named = dict(call)
    dtype, size, heads = named.pop("dtype", BF16), named.pop("size", 8), named.pop("heads", 4)
    keys, grad, mask = named.pop("keys", 7), named.pop("grad", True), named.pop("mask", None)
    query = torch.empty(2, 4, 5, size, dtype=dtype, requires_grad=grad)
    key = torch.empty(2, heads, keys, size, dtype=dtype)
    bias = None if mask is None else torch.empty(mask, dtype=dtype)
    assert attention_kernel(AttentionCall(query, key, key, bias, **named), capability) == kernel


def test_a_kernel_that_the_program_chooses_is_run() -> None:
    query = torch.empty(2, 4, 5, 8, dtype=BF16)
    for backend, kernel in ((SDPBackend.MATH, MATH), (SDPBackend.EFFICIENT_ATTENTION, EFFICIENT)):
        with sdpa_kernel(backend):
            assert attention_kernel(AttentionCall(query, query, query), (9, 0)) == kernel


@pytest.mark.parametrize("dtype", [BF16, FLOAT])
@pytest.mark.parametrize("mask", ["none", "flags", "causal", "gradients"])
def test_attention_of_any_kernel_has_a_backward(dtype: torch.dtype, mask: str) -> None:
    def run() -> None:
        query, key, value = (torch.randn(2, 4, 5, 8, dtype=dtype, requires_grad=True) for _ in range(3))
        bias = None
        if mask not in {"none", "causal"}:
            bias = torch.ones(5, 5, dtype=torch.bool) if mask == "flags" else torch.zeros(5, 5, dtype=dtype)
            bias.requires_grad = mask == "gradients"
        out = functional.scaled_dot_product_attention(query, key, value, bias, is_causal=mask == "causal")
        assert out.shape == query.shape
        out.sum().backward()
        assert query.grad is not None
        assert query.grad.shape == query.shape

    for device in ("T4", "A100-SXM4-40GB", "H100-SXM5"):
        memory = predicted(nn.Identity(), run, device)
        assert sum(record.bytes for record in memory.records) == memory.peak


@pytest.mark.parametrize("optimizer", ["none", "adamw", "fused"])
@pytest.mark.parametrize("model", MODELS)
def test_a_training_counts_as_on_the_cpu(model: str, optimizer: str) -> None:
    network, _, run = training(model, optimizer)
    with OpCounter(network, memory=True, dry_run=True) as cpu:
        run()
    network, _, run = training(model, optimizer)
    with OpCounter(network, memory=True, dry_run=True, device="L4") as gpu:
        run()
    if model != "fused attention" and "checkpoint" not in model:  # whose backward computes the scores again
        assert gpu.macs == cpu.macs
    assert gpu.memory.device == "L4"
    assert sum(record.bytes for record in gpu.memory.records) == gpu.memory.peak
    assert gpu.coverage.complete


def test_optimizers_handle_all_parameters_at_once() -> None:
    model, x = nn.Linear(30, 30, bias=False), torch.randn(1, 30)
    for foreach, temporaries in ((None, 1), (True, 1), (False, 1)):
        optimizer = torch.optim.AdamW(model.parameters(), foreach=foreach)

        def run(optimizer: torch.optim.Optimizer = optimizer) -> None:
            model(x).sum().backward()
            optimizer.step()

        memory = predicted(model, run)
        name = "aten.sqrt.default" if foreach is False else "aten._foreach_sqrt.default"
        assert memory.by_operator()[name] == temporaries * 4 * 900


def test_norms_keep_statistics_in_float32() -> None:
    x = torch.randn(6, 8, 4, 4, dtype=BF16, requires_grad=True)
    for norm, statistics in (
        (nn.BatchNorm2d(8), 2 * 8 * 4), (nn.LayerNorm(4), 2 * 6 * 8 * 4 * 4), (nn.RMSNorm(4), 6 * 8 * 4 * 4),
    ):  # fmt: skip
        model = norm.bfloat16()
        memory = predicted(model, lambda model=model: model(x * 1).sum().backward())
        assert sum(row.bytes for row in memory.saved) == x.nbytes + statistics + 2


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True, "bias": False}])
def test_recurrent_layers_are_a_lower_bound(kind: Any, options: dict[str, Any]) -> None:
    model, x = kind(4, 8, 2, **options), torch.randn(3, 2, 4)
    memory = predicted(model, lambda: model(x)[0].sum().backward())
    assert memory.unknown == ("aten._cudnn_rnn.default",)
    packed = nn.utils.rnn.pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    memory = predicted(model, lambda: model(packed)[0].data.sum().backward())
    assert memory.unknown == ("aten._cudnn_rnn.default",)


def test_recurrent_cells_run_one_kernel_a_step() -> None:
    x = torch.randn(3, 4)
    for cell, kept in ((nn.LSTMCell(4, 8), 4 * 8), (nn.GRUCell(4, 8), 5 * 8)):

        def run(cell: Any = cell) -> None:
            out = cell(x)
            (out if isinstance(out, torch.Tensor) else out[0]).sum().backward()

        saved = predicted(cell, run).saved_by_operator()
        assert saved[f"aten._thnn_fused_{type(cell).__name__[:-4].lower()}_cell.default"] >= 3 * kept * 4


def test_a_device_is_for_dry_runs_of_memory() -> None:
    for settings in ({}, {"dry_run": True}, {"memory": True}):
        with pytest.raises(ValueError, match="beside dry_run=True and memory=True"):
            OpCounter(device="L4", **settings)
    with pytest.raises(DeviceError, match="TPU-v4: expected a CUDA device"):
        OpCounter(device="TPU-v4", dry_run=True, memory=True)
    with pytest.raises(DeviceError, match="known peaks"):
        OpCounter(device="H1000", dry_run=True, memory=True)
    with OpCounter(dry_run=True), pytest.raises(CounterStateError, match="for L4"):
        OpCounter(device="L4", dry_run=True, memory=True).__enter__()


def test_a_count_after_one_for_a_device_is_of_the_cpu() -> None:
    x = torch.randn(4, 8, dtype=BF16, requires_grad=True)
    model = nn.Sequential(nn.LayerNorm(8), nn.Dropout(0.1)).bfloat16()

    def run() -> None:
        model(x).sum().backward()

    with OpCounter(model, dry_run=True, memory=True) as before:
        run()
    predicted(model, run)
    with OpCounter(model, dry_run=True, memory=True) as after:
        run()
    assert after.memory == before.memory
    assert "aten.native_dropout.default" not in after.by_operator()
    real = functional.dropout(x, 0.5)
    assert real.grad_fn is not None
    assert "Mul" in type(real.grad_fn).__name__
