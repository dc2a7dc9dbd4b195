"""What holds for every test: one thread, one seed, and no trace of a counter afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]

torch.set_num_threads(1)
settings.register_profile("opcount", settings.default, deadline=None)
settings.load_profile("opcount")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Look for examples in opcount's docstrings only: importing a sample or a helper of the tests may have effects."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


def traces() -> dict[str, object]:
    """Return the state of PyTorch that a counter touches, or that its user would miss, by name."""
    return {
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
        "autograd is multithreaded": torch._C._is_multithreading_enabled(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "compile stance": _compile_stance(),
        **{name: list(hooks) for name, hooks in _global_hooks().items()},
    }


def _global_hooks() -> dict[str, dict[int, object]]:
    return {
        name: value
        for source in (modules, optimizers)
        for name, value in vars(source).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }


def _compile_stance() -> str:
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo._stance.stance if dynamo is not None else "default"


@pytest.fixture(autouse=True)
def no_trace_left() -> Iterator[None]:
    """Fail a test that leaves PyTorch in another state than it found it."""
    torch.manual_seed(0)
    before = traces()
    yield
    after = traces()
    changed = {name: f"{before[name]} -> {after[name]}" for name in before if before[name] != after[name]}
    assert not changed, f"the test left traces: {changed}"
    assert after["dispatch modes"] == 0
    assert after["compile stance"] == "default"
