"""Memory of training on a GPU, against what was predicted for it on a CPU beforehand.

``python scripts/bench/gpu_memory.py predict FILE.json [--on H100-SXM5] [--case NAME ...]`` counts five training loops
in dry runs, without a GPU. ``python scripts/bench/gpu_memory.py measure FILE.json`` runs them on CUDA, each in a
process of its own, and prints the peaks of the bytes requested, allocated and reserved beside the predictions, and
what the context takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's opcount

from opcount import Device, OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

STEPS = 3
_KEPT = ("requested", "allocated", "reserved")


class LanguageModel(nn.Module):
    """An embedding, two recurrent layers and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(10_000, 512), nn.LSTM(512, 1024, 2, batch_first=True)
        self.head = nn.Linear(1024, 10_000)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the scores of the words, ``batch x tokens x words``."""
        return self.head(self.lstm(self.words(ids))[0])


def _resnet() -> tuple[nn.Module, list[torch.Tensor], Callable[..., torch.Tensor]]:
    from torchvision.models import resnet50  # noqa: PLC0415  (each case needs its own library)

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(x), y)

    return resnet50(), [torch.randn(32, 3, 224, 224), torch.randint(1000, (32,))], loss


def _vit() -> tuple[nn.Module, list[torch.Tensor], Callable[..., torch.Tensor]]:
    from torchvision.models import vit_b_16  # noqa: PLC0415  (each case needs its own library)

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(x), y)

    return vit_b_16(), [torch.randn(32, 3, 224, 224), torch.randint(1000, (32,))], loss


def _gpt2() -> tuple[nn.Module, list[torch.Tensor], Callable[..., torch.Tensor]]:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  (each case needs its own library)

    def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        return model(ids, labels=ids, use_cache=False).loss

    model = GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa"))
    return model, [torch.randint(50257, (8, 512))], loss


def _unet() -> tuple[nn.Module, list[torch.Tensor], Callable[..., torch.Tensor]]:
    from diffusers import UNet2DModel  # noqa: PLC0415  (each case needs its own library)

    def loss(model: nn.Module, x: torch.Tensor, time: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(model(x, time, return_dict=False)[0], noise)

    model = UNet2DModel(
        sample_size=64,
        layers_per_block=2,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    return model, [torch.randn(16, 3, 64, 64), torch.randint(1000, (16,)), torch.randn(16, 3, 64, 64)], loss


def _lstm() -> tuple[nn.Module, list[torch.Tensor], Callable[..., torch.Tensor]]:
    def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    return LanguageModel(), [torch.randint(10_000, (32, 128))], loss


CASES: dict[str, tuple[Callable[[], Any], bool, Callable[[Any], torch.optim.Optimizer]]] = {
    "resnet50 fp32, SGD, 32": (_resnet, False, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True)),
    "vit_b_16 bf16 autocast, AdamW foreach, 32": (_vit, True, lambda p: torch.optim.AdamW(p, foreach=True)),
    "gpt2 fp32, AdamW fused, 8 x 512": (_gpt2, False, lambda p: torch.optim.AdamW(p, fused=True)),
    "unet fp32, AdamW foreach, 16": (_unet, False, lambda p: torch.optim.AdamW(p, foreach=True)),
    "lstm fp32, AdamW foreach, 32 x 128": (_lstm, False, lambda p: torch.optim.AdamW(p, foreach=True)),
}
"""By name: what makes model, inputs and loss; whether autocast is on; the optimizer."""


def _train(
    case: str,
    device: str,
    around: Callable[[nn.Module], AbstractContextManager[Any]],
    mark: Callable[[str], object] = str,
) -> Any:
    """Train for some steps inside a block; return what it yields. Each phase that ends is marked."""
    make, autocast, optimizer_of = CASES[case]
    torch.manual_seed(0)
    model, inputs, loss_of = make()
    model.to(device)
    inputs = [tensor.to(device) for tensor in inputs]
    optimizer = optimizer_of(model.parameters())
    with around(model) as found:
        for _ in range(STEPS):
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                loss = loss_of(model, *inputs)
            mark("forward")
            loss.backward()
            del loss
            mark("backward")
            optimizer.step()
            optimizer.zero_grad()
            mark("optimizer")
    return found


def predict(file: Path, on: str, cases: list[str]) -> None:
    """Write the predicted peaks of some cases."""
    device, found = Device.find(on), {}
    for case in cases:
        start = time.monotonic()
        counter = _train(case, "cpu", lambda model: OpCounter(model, dry_run=True, memory="log", device=device))
        fit = counter.profile.fits(device)
        found[case] = {
            **{name: getattr(fit.replay, name) for name in _KEPT},
            "parts": {part.name: part.bytes for part in fit.parts},
            "unknown": fit.unknown,
            "categories": counter.memory.by_category(),
            "phases": dict(counter.memory.phase_peaks),
            "seconds": round(time.monotonic() - start, 1),
        }
        print(case, *(f"{name} {found[case][name] / 1e6:.1f} MB" for name in _KEPT), f"{found[case]['seconds']} s")
    file.write_text(json.dumps({"device": device.name, "torch": torch.__version__, "cases": found}, indent=1) + "\n")


def measure(file: Path, cases: list[str]) -> None:
    """Run the cases of a file on CUDA, and print their peaks beside the predicted ones."""
    prediction = json.loads(file.read_text())
    free, total = torch.cuda.mem_get_info()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, total memory {total}, used {total - free}")
    print(f"predicted for {prediction['device']} with torch {prediction['torch']}")
    results = {}
    for case in cases:
        command = [sys.executable, __file__, "one", str(file), "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (this file)
        if done.returncode:
            print(f"{case}: {done.stderr.strip().splitlines()[-1:]}")
            continue
        real = results[case] = json.loads(done.stdout.splitlines()[-1])
        print(f"{case} ({real['seconds']:.1f} s; context {real['context'] / 1e6:.0f} MB)")
        print(f"  counted on the GPU {real['counted']:,}, inside kernels {real['inside_kernels']:,}")
        for name in _KEPT:
            predicted, measured = prediction["cases"][case][name], real[name]
            share = 100 * (predicted - measured) / measured
            print(f"  {name:9}  predicted {predicted:>14,}  measured {measured:>14,}  {share:+.2f} %")
        for phase, peak in real["phases"].items():
            live = prediction["cases"][case]["phases"][phase]
            print(f"  {phase:9}  predicted {live:>14,}  measured {peak:>14,}  requested, workspaces measured alone")
    print(json.dumps(results))


def one(case: str) -> None:
    """Run one case on CUDA; print its peaks, and those of the bytes requested in each phase, as JSON."""
    start = time.monotonic()
    torch.cuda.init()
    peaks, phases = dict.fromkeys(_KEPT, 0), dict[str, int]()

    def mark(phase: str) -> None:
        torch.cuda.synchronize()
        for name in _KEPT:
            peaks[name] = max(peaks[name], torch.cuda.memory_stats()[f"{name}_bytes.all.peak"])
        phases[phase] = max(phases.get(phase, 0), torch.cuda.memory_stats()["requested_bytes.all.peak"])
        torch.cuda.reset_peak_memory_stats()

    _train(case, "cuda", nullcontext, mark)
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    facts = {"phases": phases, "context": context, "seconds": time.monotonic() - start}
    memory = _train(case, "cuda", lambda model: OpCounter(model, memory="allocator")).memory
    facts |= {"counted": memory.peak, "inside_kernels": memory.allocator.inside_kernels}
    print(json.dumps({**peaks, **facts}))


def main() -> None:
    """Predict or measure."""
    parser = argparse.ArgumentParser(prog="python scripts/bench/gpu_memory.py", description=__doc__)
    parser.add_argument("what", choices=("predict", "measure", "one"))
    parser.add_argument("file", type=Path, help="of the predictions")
    parser.add_argument("--on", default="H100-SXM5", help="the device to predict for")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; may be repeated")
    options = parser.parse_args()
    cases = options.case or list(CASES)
    if options.what == "predict":
        predict(options.file, options.on, cases)
    elif options.what == "measure":
        measure(options.file, cases)
    else:
        one(cases[0])


if __name__ == "__main__":
    main()
