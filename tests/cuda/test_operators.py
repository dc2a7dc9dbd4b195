"""PyTorch's database of operators on CUDA: explained, counted as on a CPU, and computed as without a counter."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice

import pytest
import torch

from opcount import OpCounter
from tests.cuda import needs_cuda
from tests.test_completeness import GARBAGE, OTHER_UNDER_A_MODE, WAVERING, Empty, op_db, quiet, run, seed

needs_cuda()

COMPILED_AT_RUN_TIME = {op.name for op in op_db if op.name.startswith("jiterator")}
"""Operators whose kernels are compiled from text: `test_launches.py`."""

OTHER_UNDER_A_MODE = {*OTHER_UNDER_A_MODE, "cumprod"}


def samples(op, dtype, *, on_cuda):
    """Draw on the CPU, since the database draws other values on CUDA."""
    grad = op.supports_autograd and all(dtype in op.supported_backward_dtypes(device) for device in ("cpu", "cuda"))
    seed()
    with quiet():
        drawn = list(islice(op.sample_inputs_func(op, "cpu", dtype, grad), 2))
    return [sample.transform(to_cuda) for sample in drawn] if on_cuda else drawn


def to_cuda(x):
    if x == torch.device("cpu") or (isinstance(x, str) and x == "cpu"):
        return torch.device("cuda")
    return x.detach().to("cuda").requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x


def count(op, sample):
    with quiet(), OpCounter() as c:
        outs, grads = run(op, sample)
    return c, outs, grads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "op", [op for op in op_db if op.name not in COMPILED_AT_RUN_TIME], ids=lambda op: op.formatted_name
)
def test_an_operator_counts_as_on_a_cpu(op, dtype):
    if not all(dtype in op.supported_dtypes(device) for device in ("cpu", "cuda")):
        pytest.skip(f"{dtype} is not on both devices")
    drawn = (samples(op, dtype, on_cuda=on_cuda) for on_cuda in (False, True, True))
    for here, there, bare in zip(*drawn, strict=True):
        on_cpu, expected, _ = count(op, here)
        on_cuda, outs, grads = count(op, there)
        with quiet(), Empty() if op.name in OTHER_UNDER_A_MODE else nullcontext():
            bare_outs, bare_grads = run(op, bare)
        assert isinstance(outs, type) == isinstance(bare_outs, type)
        if isinstance(outs, type):
            assert outs is bare_outs
            continue
        assert not on_cuda.coverage.uncounted
        if op.name not in GARBAGE | WAVERING:
            torch.testing.assert_close((outs, grads), (bare_outs, bare_grads), equal_nan=True)
        if not isinstance(expected, type):
            assert on_cuda.macs == on_cpu.macs
