"""State around a program, which must be as it was when a count is over."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import torch

from tests.conftest import differences, traces

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.generator.outcome import Outcome


def traces_of(run: Callable[[], Outcome]) -> list[str]:
    """Return what a run has changed around it."""
    before, own = traces(), _own_traces()
    gc.freeze()  # looks later at what is new alone
    result = run()
    counter, result.context = weakref.ref(result.context), None
    result.error = None
    found = [f"{name}: {change}" for name, change in differences(before).items()]
    found += changes(own, _own_traces())
    gc.collect()
    gc.unfreeze()
    return [*found, "the counter is still alive"] if counter() is not None else found


def _own_traces() -> dict[str, Any]:
    return {
        "threads": {thread.name for thread in threading.enumerate()},
        "warning filters": list(warnings.filters),
        "saved tensor hooks": torch._C._autograd._top_saved_tensors_default_hooks(True),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def anatomy(model: torch.nn.Module) -> dict[str, object]:
    """Return what every attribute of every module is: identities, types, hooks."""
    found: dict[str, object] = {}
    for path, module in model.named_modules():
        found[path] = (id(module), type(module).__name__)
        for name, value in _attributes(module).items():
            found |= {f"{path}.{name}{key}": (id(each), type(each).__name__) for key, each in _inside(value)}
    return found


def _inside(value: Any) -> list[tuple[str, Any]]:
    """Return what is in a container; weak references are what they refer to."""
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", each() if isinstance(each, weakref.ref) else each) for i, each in enumerate(value)]
    if not isinstance(value, dict):
        return [("", value)]
    numbered = all(isinstance(key, int) for key in value)  # hooks, by numbers of the process
    return [(f"[{i if numbered else key!r}]", each) for i, (key, each) in enumerate(value.items())]


def shape(model: torch.nn.Module) -> dict[str, object]:
    """Return what attributes there are, and of which types: what two models that were built alike have in common."""
    return {name: value[1] for name, value in anatomy(model).items()}


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not isinstance(value, (bool, int, float, str))}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what differs, as text."""
    names = dict.fromkeys([*before, *after])
    return [f"{n}: {before.get(n)} -> {after.get(n)}" for n in names if before.get(n) != after.get(n)]
