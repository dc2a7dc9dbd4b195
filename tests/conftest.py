"""Rules for every test: one thread, one seed, and no trace of a counter afterwards."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from torch.autograd.variable import Variable
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from opcount._torch.stand_ins import default_device, is_autocast_enabled
from tests.features import skip_if_lacking
from tests.forked import Server
from tests.shims import ROOT, STARTUP, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import CompletedProcess

pytest_plugins = ["pytester"]

_CLASSES = (torch.nn.Module, torch.Tensor, torch.optim.Optimizer, torch.autograd.Function)
"""Classes that every program runs; what libraries add to them when they are first used is theirs."""

torch.set_num_threads(1)
settings.register_profile("opcount", settings.default, deadline=None)
settings.load_profile("opcount")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background, which processes inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATH = os.pathsep.join([str(STARTUP), str(ROOT)])
"""The shims, and this checkout, for processes that run in folders of their own."""

_SCRIPT_OPERATORS: list[object] = []
"""Operators that TorchScript knows, kept alive: its table is keyed by ``id``, so one that is freed with its library
leaves its name to the object that takes its place in memory, and a later ``torch.jit.script`` fails."""


def _keep_script_operators() -> None:
    register = torch.jit._builtins._register_builtin

    def keep(operator: object, name: str) -> None:
        _SCRIPT_OPERATORS.append(operator)
        register(operator, name)

    torch.jit._builtins._register_builtin = keep


_keep_script_operators()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Look for examples in opcount's docstrings only: importing a sample or a helper of the tests may have effects."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip a test that asks for what this PyTorch lacks."""
    try:
        return (yield)
    except (AttributeError, ImportError) as error:
        skip_if_lacking(error)
        raise


pytest_runtest_setup = pytest_runtest_call


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[object]:
    """Look at each object of a file's tests no longer when these are over.

    A counter of live bytes, a dry run of the command line and each full collection look at all objects of the process,
    which are a million by then: modules of libraries and PyTorch's database of operators.
    """
    result = yield
    if nextitem is not None and nextitem.path != item.path:
        _freeze()
    return result


def pytest_collection_finish() -> None:
    """Look at what was imported no longer."""
    _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def traces() -> dict[str, object]:
    """Return the state of PyTorch that a counter touches, or that its user would miss, by name."""
    return {
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
        "autograd is multithreaded": torch._C._is_multithreading_enabled(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autocast": [is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "default dtype": torch.get_default_dtype(),
        "default device": default_device(),
        "threads": torch.get_num_threads(),
        "compile stance": _compile_stance(),
        "autograd's engine": Variable._execution_engine,
        "Python's profiler": sys.getprofile(),
        **{name: list(hooks) for name, hooks in _global_hooks().items()},
        **{f"{kind.__name__}.{name}": value for kind in _CLASSES for name, value in vars(kind).items()},
        **{
            f"code of {kind.__name__}.{name}": value.__code__
            for kind in _CLASSES
            for name, value in vars(kind).items()
            if hasattr(value, "__code__")
        },
    }


def differences(before: dict[str, object]) -> dict[str, str]:
    """Return what has changed since, as text; a value that was put in another's place is a change though it equals."""
    after = traces()
    pairs = {name: (old, after.get(name, "absent")) for name, old in before.items()}
    return {
        name: f"{old} -> {new}"
        for name, (old, new) in pairs.items()
        if (old != new or (callable(old) and old is not new)) and not _is_dynamos(new)
    }


def _is_dynamos(value: object) -> bool:
    """Return whether dynamo put it there: it replaces ``nn.Module.__init__`` when it first compiles a module."""
    module, file = getattr(value, "__module__", None) or "", Path(getattr(value, "co_filename", ""))
    return module.startswith("torch._dynamo") or file.parent.name == "_dynamo"


def _global_hooks() -> dict[str, dict[int, object]]:
    return {
        name: value
        for source in (modules, optimizers)
        for name, value in vars(source).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }


def _compile_stance() -> str:
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo._stance.stance if hasattr(dynamo, "_stance") else "default"  # since 2.6


@pytest.fixture(scope="session")
def forks() -> Iterator[Server]:
    """Return a server of processes that begin with torch and opcount imported."""
    server = Server(child_environment(PYTHONPATH=PATH))
    yield server
    server.close()


@pytest.fixture
def forked(forks: Server) -> Callable[[str], CompletedProcess[str]]:
    """Return a function that runs a program in a process which has imported torch and opcount, and no compiler."""
    return lambda program: forks.run([], env=child_environment(PYTHONPATH=PATH), cwd=ROOT, program=program)


@pytest.fixture(autouse=True)
def no_trace_left() -> Iterator[None]:
    """Fail a test that leaves PyTorch in another state than it found it."""
    torch.manual_seed(0)
    before = traces()
    yield
    changed = differences(before)
    assert not changed, f"the test left traces: {changed}"
    assert before["dispatch modes"] == 0
    assert before["compile stance"] == "default"
