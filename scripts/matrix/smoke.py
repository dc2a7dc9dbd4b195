"""Counts of small programs under the PyTorch that is installed: prints each that is wrong, and how many are right."""

from __future__ import annotations

import pkgutil
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import opcount
from opcount import OpCounter, get_model_complexity_info
from opcount.compat.fvcore import FlopCountAnalysis
from opcount.compat.torch import FlopCounterMode
from opcount.distributed import simulate
from opcount.errors import CounterStateError

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARD, BACKWARD = 4 * 10 * 20 + 4 * 20 * 5, 4 * 10 * 20 + 2 * 4 * 20 * 5
"""Products of `net` for four rows; the input needs no gradient."""


def net() -> nn.Module:
    """Make a small network."""
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


def phases(counter: OpCounter) -> dict[str, int]:
    """Return the MACs of each phase."""
    return {phase: total.macs for phase, total in counter.by_phase().items()}


def train(*, dry_run: bool) -> object:
    """Count one step of training."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    with OpCounter(model, strict=True, dry_run=dry_run) as c:
        model(torch.ones(4, 10)).sum().backward()
        optimizer.step()
    return phases(c)


def modules(context: Callable[[], Any]) -> object:
    """Count a forward, by module."""
    model = net()
    with context(), OpCounter(model, strict=True) as c:
        model(torch.ones(4, 10))
    return {path: total.macs for path, total in c.by_module().items()}


def checkpointed(*, use_reentrant: bool) -> object:
    """Count a forward and the backward through a checkpoint."""
    model, x = net(), torch.ones(4, 10, requires_grad=True)
    with OpCounter(model, strict=True) as c:
        checkpoint(model, x, use_reentrant=use_reentrant).sum().backward()
    return phases(c)["forward"], phases(c)["backward"]


def encoder(context: Callable[[], Any]) -> object:
    """Count a layer that has a fast path."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    with context(), OpCounter(layer, strict=True) as c:
        layer(torch.ones(2, 7, 16))
    return c.macs


def attention() -> object:
    """Count the forward of attention that needs gradients."""
    q = torch.ones(1, 2, 8, 16, requires_grad=True)
    with OpCounter(strict=True) as c:
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    return phases(c)["forward"]


def compiled() -> object:
    """Count a model that is compiled inside the block."""
    model = net()
    with OpCounter(model, strict=True) as c:
        torch.compile(model, backend="eager")(torch.ones(4, 10))
    return c.by_module()["0"].macs


def recurrent() -> object:
    """Count a recurrent layer."""
    model = nn.LSTM(10, 20)
    with OpCounter(model, strict=True) as c:
        model(torch.ones(4, 1, 10))
    return c.macs


def activations() -> object:
    """Count elementwise operators and a norm, which some versions do not tag."""
    with OpCounter(strict=True) as c:
        for name in ("leaky_relu", "elu", "mish", "silu", "softplus", "hardtanh", "hardsigmoid", "gelu"):
            getattr(nn.functional, name)(torch.ones(3))
        torch.linalg.vector_norm(torch.ones(3))
    return c.arith


def flop_counter() -> object:
    """Count by the drop-in."""
    with FlopCounterMode(display=False) as c:
        net()(torch.ones(4, 10))
    return c.get_total_flops()


def simulated() -> object:
    """Count a step of replicas in a world that is not there; None before PyTorch 2.3, where that is refused."""
    model = net()
    try:
        with simulate(model, world=4, memory=False, strict=True) as c:
            torch.distributed.init_process_group("nccl")
            nn.parallel.DistributedDataParallel(model)(torch.ones(4, 10)).sum().backward()
    except CounterStateError:
        return None
    return phases(c), c.profile.communication.by_kind()["all-reduce"].buffer_bytes


def lacking() -> object:
    """Return the modules of opcount that ask this PyTorch for what it lacks."""
    found = {}
    for module in pkgutil.walk_packages(opcount.__path__, "opcount."):
        if not module.name.startswith(("opcount.__main__", "opcount.integrations")):  # these need other packages
            try:
                import_module(module.name)
            except ImportError as error:
                if (error.name or "torch").partition(".")[0] in {"torch", "opcount"}:
                    found[module.name] = str(error)
    return found


_TRAINED = {"forward": FORWARD, "backward": BACKWARD, "optimizer": 0}
_CHECKPOINTED = FORWARD, 2 * FORWARD  # the input needs a gradient here
_BY_MODULE = {"": FORWARD, "0": 800, "1": 0, "2": 400}
_ENCODER = 2 * 7 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 32) + 2 * 2 * 7 * 7 * 16  # projections, hidden layers; attention
_OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 3)
_SIMULATED = None if _OLD else ({"forward": FORWARD, "backward": BACKWARD}, 4 * (10 * 20 + 20 + 20 * 5 + 5))  # float32
CHECKS: dict[str, tuple[Callable[[], object], object]] = {
    "training": (lambda: train(dry_run=False), _TRAINED),
    "training, dry run": (lambda: train(dry_run=True), _TRAINED),
    **{f"modules, {c.__name__}": (lambda c=c: modules(c), _BY_MODULE) for c in (torch.no_grad, torch.inference_mode)},
    **{
        f"checkpoint, use_reentrant={flag}": (
            lambda flag=flag: checkpointed(use_reentrant=flag),
            (FORWARD, 2 * FORWARD),
        )
        for flag in (True, False)
    },
    **{
        f"encoder layer, {c.__name__}": (lambda c=c: encoder(c), _ENCODER)
        for c in (torch.no_grad, torch.inference_mode, torch.enable_grad)
    },
    "attention": (attention, 2 * 2 * 8 * 8 * 16),
    "a model compiled inside": (compiled, 800),
    "LSTM": (recurrent, 4 * 4 * (10 * 20 + 20 * 20)),
    "activations and a norm": (activations, 9 * 3),
    "drop-in for mmengine": (lambda: get_model_complexity_info(net(), (10,), show_table=False)["flops"], 300),
    "drop-in for fvcore": (lambda: FlopCountAnalysis(net(), torch.ones(4, 10)).total(), FORWARD),
    "drop-in for FlopCounterMode": (flop_counter, 2 * FORWARD),
    "replicas in a simulated world": (simulated, _SIMULATED),
    "modules that cannot be imported": (lacking, {}),
}


def main() -> int:
    """Run every check; return 1 if a count is wrong."""
    warnings.simplefilter("ignore")
    right = 0
    for name, (count, expected) in CHECKS.items():
        try:
            found = count()
        except Exception as error:  # noqa: BLE001  (the others are to be checked, too)
            found = f"{type(error).__name__}: {error}"
        right += found == expected
        if found != expected:
            print(f"{name}: expected {expected}, got {found}")
    print(f"PyTorch {torch.__version__}: {right} of {len(CHECKS)}")
    return int(right < len(CHECKS))


if __name__ == "__main__":
    sys.exit(main())
