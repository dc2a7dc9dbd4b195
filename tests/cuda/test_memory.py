"""Live bytes on CUDA: with the allocator's account, and as a dry run on the CPU predicts them."""

from __future__ import annotations

import pytest
import torch

from opcount import Device, OpCounter
from tests.cuda import needs_cuda
from tests.cuda.test_models import MODELS, gpt2, resnet, vit

needs_cuda()

WORKSPACES = 2 * 33 * 2**20
"""Bytes that cuBLAS and cuBLASLt take for the thread of forward and for that of backward."""


def train(model, inputs, optimizer, dtype):
    for _ in range(2):
        with torch.autocast(inputs.device.type, dtype=dtype, enabled=dtype is not None):
            out = model(inputs)
            loss = getattr(out, "logits", out).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def tracked(build, dtype, *, cuda, **how):
    torch.manual_seed(0)
    model, inputs = build()
    if cuda:
        model, inputs = model.cuda(), inputs.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    with OpCounter(model, dry_run=not cuda, **how) as c:
        train(model, inputs, optimizer, dtype)
    return c.memory


def sized(name):
    build, size = MODELS[name]
    return lambda: (build(), torch.randn(size))


@pytest.mark.parametrize("name", ["convolutions", "attention", "encoder"])
def test_the_allocator_has_what_storages_have_and_what_kernels_take(name):
    torch.cuda.empty_cache()
    memory = tracked(sized(name), None, cuda=True, memory="allocator")
    account = memory.allocator
    assert account.bytes == memory.peak + account.inside_kernels
    assert 0 <= account.inside_kernels <= WORKSPACES + memory.peak // 5
    assert account.bytes <= account.allocated <= account.reserved
    assert account.allocated == torch.cuda.max_memory_allocated()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "autocast"])
@pytest.mark.parametrize(
    "build", [sized("convolutions"), sized("attention"), sized("encoder"), sized("lstm"), resnet, gpt2, vit],
    ids=["convolutions", "attention", "encoder", "lstm", "resnet", "gpt2", "vit"],
)  # fmt: skip
def test_a_dry_run_on_a_cpu_predicts_the_peak(build, dtype):
    real = tracked(build, dtype, cuda=True, memory=True)
    dry = tracked(build, dtype, cuda=False, memory=True, device=Device.current())
    if dry.unknown:  # what cuDNN keeps of a recurrent layer
        assert dry.peak <= 1.01 * real.peak
        return
    assert dry.peak == pytest.approx(real.peak, rel=0.01)
    assert dry.phase_peaks == pytest.approx(real.phase_peaks, rel=0.01)
