"""Runs a program one way, and takes down everything that it computed, to the bit."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import nn

    from tests.generator.program import Program


@dataclass
class Outcome:
    """Results of a run.

    Attributes:
        values: Tensors by name, as bytes.
        error: What it raised, in a thread of its own or not.
        model: Afterwards.
        context: It ran in.
    """

    values: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    model: Any = None
    context: Any = None


class NoCounter:
    """Stand-in for the counter of programs that have none."""

    @contextmanager
    def phase(self, _name: str) -> Iterator[None]:
        yield

    def pause(self) -> None:
        pass

    resume = pause


def outcome(
    program: Program,
    context: Callable[[nn.Module], AbstractContextManager[Any]] = lambda _model: nullcontext(),
    run: Callable[[nn.Module, Any, list[Any]], None] | None = None,
    model: nn.Module | None = None,
) -> Outcome:
    """Build the model, unless one is given, and run the program in a context that is made for the model."""
    build, own = program.functions()
    model = build() if model is None else model
    torch.manual_seed(program.seed + 1)
    result, seen, of_threads = Outcome(model=model), [], []
    with (
        warnings.catch_warnings(),
        patch.object(threading, "excepthook", lambda told: of_threads.append(told.exc_value)),
    ):
        warnings.simplefilter("ignore")
        try:
            result.context = context(model)
            with result.context as entered:
                (run or own)(model, entered if hasattr(entered, "pause") else NoCounter(), seen)
        except Exception as error:  # noqa: BLE001  (any error is part of the outcome)
            result.error = error
    result.error = result.error or next(iter(of_threads), None)
    result.values = {f"seen[{i}]": frozen(value) for i, value in enumerate(seen)} | state(model)
    result.values["random numbers"] = frozen(torch.get_rng_state())
    return result


def state(model: nn.Module) -> dict[str, Any]:
    """Return parameters, their gradients, and buffers."""
    tensors = {f"parameter {name}": p for name, p in model.named_parameters()}
    tensors |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    tensors |= {f"buffer {name}": b for name, b in model.named_buffers()}
    return {name: frozen(value) for name, value in tensors.items()}


@torch.inference_mode()
def frozen(value: Any) -> Any:
    """Return what tells tensors apart: type, dtype, shape and bits, those of its gradient included."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    if is_lazy(value) or torch._C._functorch.is_functorch_wrapped_tensor(value):  # the transform is over
        return type(value).__name__
    if value.layout != torch.strided:
        value = value.to_dense()
    grad = frozen(value.grad) if value.is_leaf and value.grad is not None else None
    try:
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        bits = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError) as error:
        bits = f"unreadable: {error}"[:200]
    return type(value).__name__, str(value.dtype), tuple(value.shape), value.requires_grad, bits, grad


def different(a: Outcome, b: Outcome) -> list[str]:
    """Return the names of what two runs computed differently."""
    names = [name for name in dict.fromkeys([*a.values, *b.values]) if a.values.get(name) != b.values.get(name)]
    return names if alike(a.error, b.error) else [*names, f"error: {a.error!r} and {b.error!r}"]


def alike(a: BaseException | None, b: BaseException | None) -> bool:
    """Return whether two errors say the same; TorchScript's also tell from where a function was traced.

    Dynamo's tell what it met first in code that it cannot trace, that of wrappers and counters included.
    """
    if all(type(each).__module__.startswith("torch._dynamo.") for each in (a, b)):
        return True
    texts = [str(each) for each in (a, b)]
    if all("TorchScript interpreter" in text for text in texts):
        texts = [text.strip().splitlines()[-1] for text in texts]
    return type(a) is type(b) and texts[0] == texts[1]
