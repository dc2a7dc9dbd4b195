"""The replay against what GPUs have measured: see ``tests/reference/cuda/README.md``."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.fit import AllocationLog
from tests.shims import define_torchvision_operators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

define_torchvision_operators()
FOLDER = Path(__file__).parents[1] / "reference/cuda"
TRACES = json.loads(gzip.decompress((FOLDER / "traces.json.gz").read_bytes()))
MEASURED = {
    case["case"]: case
    for case in map(json.loads, gzip.decompress((FOLDER / "memory.jsonl.gz").read_bytes()).splitlines())
}
WORKSPACES = [32 << 20] * 2
"""One for the thread of forward, one for that of backward."""


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(1000, 128), nn.LSTM(128, 256, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(256, 1000)


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("torchvision").models.get_model(name)


def of_timm(name: str) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("timm").create_model(name)


def of_transformers(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        library = pytest.importorskip("transformers")
        config = getattr(library, name).config_class(**settings)
        return getattr(library, name)(config)

    return make


LLAMA = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 8}
MODELS = {
    "resnet50": of_torchvision("resnet50"),
    "efficientnet_b0": of_torchvision("efficientnet_b0"),
    "vit_base": of_timm("vit_base_patch16_224"),
    "swin_tiny": of_timm("swin_tiny_patch4_window7_224"),
    "gpt2": of_transformers("GPT2LMHeadModel"),
    "llama": of_transformers("LlamaForCausalLM", **LLAMA, num_key_value_heads=4, vocab_size=2000),
    "bert": of_transformers("BertForMaskedLM", num_hidden_layers=4),
    "lstm": Recurrent,
}


def steps(trace: Sequence[tuple[str, int, int]], state: Sequence[int], times: int) -> list[int]:
    """Return the events of a loop whose steps do what a trace did; the first makes state before gradients are freed."""
    events: list[int] = []
    made = 0
    last = max(at for at, (action, *_) in enumerate(trace) if action == "alloc")
    for step in range(times):
        numbers: dict[int, int] = {}
        for at, (action, size, address) in enumerate(trace):
            if action == "alloc":
                events.append(size)
                numbers[address], made = made, made + 1
            elif action == "free_completed":
                events.append(-1 - 2 * (made - 1 - numbers.pop(address)))
            if at == last and not step:
                events += state
                made += len(state)
    return events


@pytest.mark.parametrize("case", TRACES)
def test_steps_that_a_gpu_has_run_have_its_segments(case: str) -> None:
    name = case.partition("_1_")[0]
    with torch.device("meta"):
        model = MODELS[name]()
    weights = [parameter.nbytes for parameter in model.parameters()]
    before = [*weights, *(buffer.nbytes for buffer in model.buffers())]
    state = [size for size in weights for _ in range(2)]
    log = AllocationLog.of(before, steps(TRACES[case]["trace"], state, 3))
    assert not log.find_fault()
    segments = sum(size for _, size, _ in TRACES[case]["segments"])
    assert log.replay(workspaces=WORKSPACES).reserved == pytest.approx(
        segments, rel=0.05, abs=22 << 20
    )  # a segment of each kind
    longer = AllocationLog.of(before, steps(TRACES[case]["trace"], state, 6))
    assert longer.replay(workspaces=WORKSPACES) == log.replay(workspaces=WORKSPACES)


@pytest.mark.parametrize("case", ["llama x4 fp32 adamw_fused", "bert x1 fp32 adamw_fused", "bert x4 fp32 adamw_fused"])
def test_a_dry_run_has_the_peaks_of_an_h100(case: str) -> None:
    name, times, *_ = case.split()
    model = MODELS[name]().train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.ones(2 * int(times[1:]), 128, dtype=torch.int64)
    with OpCounter(model, dry_run=True, memory="log", device="H100-SXM5") as c:
        for _ in range(2):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    replay = c.profile.fits("H100-SXM5").replay
    phases = [phase for step in ("step0", "step1") for phase in MEASURED[case][step].values()]
    measured = {name: max(phase[name] for phase in phases) for name in phases[0]}
    assert replay.requested == pytest.approx(measured["req_peak"], rel=1e-4)
    assert replay.allocated == pytest.approx(measured["peak"], rel=0.012)
    assert replay.reserved == measured["reserved_peak"]
