"""Time to price one call, over the calls of training steps; a millisecond is a microsecond a call."""

from __future__ import annotations

import statistics
import timeit
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import measure
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from opcount.formulas import rule_for
from opcount.formulas.binding import bind
from opcount.registry import BUILTIN, Formula, operator_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = 100
REPEATS = 3


class Call(NamedTuple):
    """One call of an operator that has a formula."""

    func: Any
    formula: Formula
    out: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recorder(TorchDispatchMode):
    """Keeps the first call of every operator on operands of each number of dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, Call] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = find(func, out, args, kwargs)
        if formula is not None:
            ranks = tuple(a.dim() for a in args if isinstance(a, torch.Tensor))
            self.calls.setdefault((func, ranks), Call(func, formula, out, args, kwargs))
        return out


def find(func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Formula | None:
    """Return the formula or the rule that is meant for a call."""
    found = BUILTIN.find(operator_keys(func))
    rule = None if found else rule_for(func)
    formulas = [bind(f, func) for f in found or ([rule] if rule else [])]
    return next((f for f in formulas if f.when is None or f.when(out, *args, **kwargs)), None)


def recorded() -> Iterator[Call]:
    """Yield the calls of training steps of a convolutional, a recurrent and an attention network."""
    convolutional = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 7 * 7, 4)
    )
    nets: list[tuple[nn.Module, torch.Tensor]] = [
        (convolutional, torch.randn(2, 3, 16, 16)),
        (nn.GRU(4, 8), torch.randn(5, 2, 4)),
        (nn.LSTM(4, 8), torch.randn(5, 2, 4)),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(2, 5, 16)),
    ]
    for net, x in nets:
        optimizer = torch.optim.AdamW(net.parameters())
        with Recorder() as recorder:
            out = net(x)
            (out[0] if isinstance(out, tuple) else out).square().mean().backward()
            optimizer.step()
        yield from recorder.calls.values()


def microseconds(program: Callable[[], object]) -> float:
    """Return what one call takes; collecting garbage between so many short programs would take all the time."""
    return min(timeit.repeat(program, number=CALLS, repeat=REPEATS)) / CALLS * 1e6


def run(cases: list[str] | None) -> list[measure.Result]:
    """Compare formulas with the operators that they price, by family, and over all."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for call in recorded():
        formula = call.formula
        if not cases or formula.family in cases:
            price = microseconds(partial(formula.price, call.out, *call.args, **call.kwargs))
            with torch.no_grad():
                found[formula.family].append((price, microseconds(partial(call.func, *call.args, **call.kwargs))))
    everything = [pair for pairs in found.values() for pair in pairs]
    return [_median(family, found[family]) for family in sorted(found)] + (
        [_median("all", everything)] if found else []
    )


def _median(case: str, pairs: list[tuple[float, float]]) -> measure.Result:
    return measure.Result(
        "formulas",
        f"{case}, {len(pairs)} kinds of call, x 1000",
        "formula",
        "operator",
        statistics.median(price for price, _ in pairs) * 1e-3,
        statistics.median(operator / price for price, operator in pairs),
    )
