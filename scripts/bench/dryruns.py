"""Dry runs against torch's own counter under FakeTensorMode; of the largest model, a process's memory too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
import torch
from models import MODELS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

LARGEST = "Llama-3.1-405B"
TORCHS = "FlopCounterMode on fake tensors"
LLAMA_405B = {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def llama(sequence: int = 2048) -> tuple[nn.Module, dict[str, Any]]:
    """Return Llama-3.1-405B on the meta device, and a sequence."""
    import transformers  # noqa: PLC0415  (an extra)

    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_405B))
    return model.eval(), {"input_ids": torch.zeros(1, sequence, dtype=torch.long), "use_cache": False}


def ours(model: nn.Module, inputs: dict[str, Any]) -> Callable[[], object]:
    """Count without computing."""

    def program() -> object:
        with torch.no_grad(), OpCounter(model, dry_run=True) as c:
            model(**inputs)
        return c.macs

    return program


def theirs(model: nn.Module, inputs: dict[str, Any]) -> Callable[[], object]:
    """Count on fake tensors with FlopCounterMode."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}

    def program() -> object:
        with torch.no_grad(), fake, FlopCounterMode(display=False) as mode:
            model(**inputs)
        return mode.get_total_flops()

    return program


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time both on each model, warm."""
    for name in names or [*MODELS, LARGEST]:
        model, inputs = llama() if name == LARGEST else MODELS[name]()
        model.eval()
        yield from measure.compare(
            "dryruns", name, ("opcount dry run", ours(model, inputs)), {TORCHS: theirs(model, inputs)}, pairs=3
        )
        if name == LARGEST and sys.platform.startswith("linux"):
            mine, other = (_peak_of_a_process(who) for who in ("ours", "theirs"))
            yield measure.Result("dryruns", name, "opcount dry run", TORCHS, mine, other / mine, "B")


def _peak_of_a_process(who: str) -> int:
    """Return the most memory that a process has which counts the largest model and does nothing else, in bytes."""
    done = subprocess.run([sys.executable, __file__, who], capture_output=True, text=True, check=True)  # noqa: S603
    return int(done.stdout.splitlines()[-1])


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    {"ours": ours, "theirs": theirs}[sys.argv[1]](*llama())()
    print(_peak())
