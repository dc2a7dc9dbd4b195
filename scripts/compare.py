"""Count five small programs by hand, by opcount and by seven other tools: ``python scripts/compare.py``.

Each tool is installed into a virtual environment of its own, which is thrown away; PyTorch is the one that runs this.
A tool that cannot be installed or does not run is named, and its row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import os
import site
import subprocess
import sys
import sysconfig
import tempfile
import venv
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]


class Product(nn.Module):
    """A product with a parameter, outside of any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x @ w``."""
        return x @ self.w


class Attention(nn.Module):
    """Self-attention of two heads, in PyTorch's fused operator."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each token sees."""
        return scaled_dot_product_attention(*self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4))


class Program(NamedTuple):
    """A model, its input, and its multiply-accumulates by hand."""

    name: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    macs: int


PROGRAMS = (
    Program("`x @ w` in a module", Product, (3, 8), 3 * 8 * 4),
    # 3 to 4 channels, 3 x 3, an image of 8 x 8 that stays one
    Program('`nn.Conv2d(padding="same")`', lambda: nn.Conv2d(3, 4, 3, padding="same"), (1, 3, 8, 8), 8 * 8 * 4 * 27),
    # 5 tokens of 16 to q, k and v; 2 heads of 8: scores, then their product with v
    Program("self-attention, fused", Attention, (1, 5, 16), 5 * 16 * 48 + 2 * (5 * 5 * 8 + 5 * 5 * 8)),
    # 5 steps, four gates of 16, each from 8 inputs and 16 hidden values
    Program("`nn.LSTM`", lambda: nn.LSTM(8, 16), (5, 1, 8), 5 * 4 * 16 * (8 + 16)),
    # the self-attention, its output projection, and two layers of 16 x 32
    Program(
        "`nn.TransformerEncoderLayer`",
        lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        (1, 5, 16),
        4640 + 5 * 16 * 16 + 2 * 5 * 16 * 32,
    ),
)


def by_opcount(model: nn.Module, x: torch.Tensor) -> int:
    """Count with opcount."""
    from opcount import OpCounter  # noqa: PLC0415

    with OpCounter(model) as c:
        model(x)
    return c.macs


def by_flop_counter_mode(model: nn.Module, x: torch.Tensor) -> int:
    """Count with PyTorch's own counter, whose FLOPs are two for each MAC."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


def by_fvcore(model: nn.Module, x: torch.Tensor) -> int:
    """Count with fvcore, whose FLOPs are MACs."""
    from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415

    return int(FlopCountAnalysis(model, x).total())


def by_deepspeed(model: nn.Module, x: torch.Tensor) -> int:
    """Count with DeepSpeed's profiler."""
    from deepspeed.profiling.flops_profiler import get_model_profile  # noqa: PLC0415

    _, macs, _ = get_model_profile(model, args=[x], print_profile=False, warm_up=0, as_string=False)
    return int(macs)


def by_thop(model: nn.Module, x: torch.Tensor) -> int:
    """Count with thop."""
    from thop import profile  # noqa: PLC0415

    return int(profile(model, (x,), verbose=False)[0])


def by_ptflops(model: nn.Module, x: torch.Tensor) -> int:
    """Count with ptflops."""
    from ptflops import get_model_complexity_info  # noqa: PLC0415

    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    return int(get_model_complexity_info(model, (1,), input_constructor=lambda _: x, **options)[0])


def by_calflops(model: nn.Module, x: torch.Tensor) -> int:
    """Count with calflops."""
    from calflops import calculate_flops  # noqa: PLC0415

    _, macs, _ = calculate_flops(model=model, args=[x], print_results=False, output_as_string=False)
    return int(macs)


def by_torchinfo(model: nn.Module, x: torch.Tensor) -> int:
    """Count with torchinfo."""
    from torchinfo import summary  # noqa: PLC0415

    return int(summary(model, input_data=x, verbose=0).total_mult_adds)


class Tool(NamedTuple):
    """A function that counts, and the packages that it needs, installed one after the other."""

    count: Callable[[nn.Module, torch.Tensor], int]
    packages: tuple[str, ...] = ()


TOOLS = {
    "opcount": Tool(by_opcount),
    "FlopCounterMode": Tool(by_flop_counter_mode),
    "fvcore": Tool(by_fvcore, ("fvcore==0.1.5.post20221221",)),
    "DeepSpeed": Tool(by_deepspeed, ("setuptools wheel", "deepspeed==0.19.8")),
    "thop": Tool(by_thop, ("thop==0.1.1.post2209072238",)),
    "ptflops": Tool(by_ptflops, ("ptflops==0.7.5",)),
    "calflops": Tool(by_calflops, ("transformers", "calflops==0.3.2")),
    "torchinfo": Tool(by_torchinfo, ("torchinfo==1.8.0",)),
}


def count(name: str) -> list[int]:
    """Count all programs with a tool that is installed here, in this process: some tools change PyTorch for good."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        return [TOOLS[name].count(copy.deepcopy(p.model()).eval(), torch.ones(p.shape)) for p in PROGRAMS]


def hide_what_is_broken() -> None:
    """Let tools do without a torchvision that does not fit this PyTorch, and without timm, which needs it."""
    for package in ("torchvision", "timm"):
        try:
            import_module(package)
        except Exception:  # noqa: BLE001  (whatever keeps it from being imported)
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]
            sys.modules[package] = None  # type: ignore[assignment]


def count_elsewhere(name: str, folder: Path) -> list[int] | str:
    """Count with a tool that is installed into a folder first; return why if that fails."""
    tool = TOOLS[name]
    python = sys.executable
    if tool.packages:
        home = folder / name
        venv.create(home, with_pip=True)
        python = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
        paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
        ours = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
        (Path(paths["purelib"]) / "pytorch_of_the_caller.pth").write_text("\n".join(ours) + "\n")
        for packages in tool.packages:
            options = ["--no-build-isolation"] if name == "DeepSpeed" else []  # its build imports torch
            command = [python, "-m", "pip", "install", "-q", *options, *packages.split()]
            done = _run(command)
            if done.returncode:
                return f"cannot be installed: {_last_line(done.stderr)}"
    done = _run([python, __file__, "--here", name])
    return json.loads(done.stdout)[name] if done.returncode == 0 else f"does not run: {_last_line(done.stderr)}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


def row(name: str, counts: list[int]) -> str:
    """Return a row of the table, with numbers in bold that are those by hand."""
    cells = [f"**{n:,}**" if n == p.macs else f"{n:,}" for p, n in zip(PROGRAMS, counts, strict=True)]
    return f"| {' | '.join([name, *cells])} |"


def header() -> list[str]:
    """Return the first lines of the table: the programs, and their MACs by hand."""
    names = ["MACs of one forward", *(p.name for p in PROGRAMS)]
    return [
        f"| {' | '.join(names)} |",
        f"|---|{'---:|' * len(PROGRAMS)}",
        row("closed form", [p.macs for p in PROGRAMS]),
    ]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", nargs="+", choices=TOOLS, metavar="TOOL", help="print counts as JSON only")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), metavar="TOOL", help="only these")
    options = parser.parse_args()
    if options.here:
        if {"thop", "ptflops", "calflops"}.intersection(options.here):
            hide_what_is_broken()
        print(json.dumps({name: count(name) for name in options.here}))
        return 0
    print("\n".join(header()), flush=True)
    failed = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in options.tools:
            found = count_elsewhere(name, Path(folder))
            if isinstance(found, str):
                failed[name] = found
                found = []
            print(
                row(name, found) if found else f"| {' | '.join([name, *['not counted'] * len(PROGRAMS)])} |", flush=True
            )
    print(f"\nPyTorch {torch.__version__}, one forward without gradients on a CPU; in bold: equal to the closed form.")
    for name, why in failed.items():
        print(f"{name} {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
