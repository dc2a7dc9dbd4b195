"""In a dry run a program may log the number of its loss and compute with it, but decide nothing by it."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts
from tests.features import needs

if TYPE_CHECKING:
    from collections.abc import Callable


def trained(log: Callable[[Any], object], *, dry: bool) -> list[tuple[object, int, object]]:
    """Return what two steps cost whose loss is logged."""
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with OpCounter(model, dry_run=dry) as c:
        for _ in range(2):
            loss = functional.mse_loss(model(torch.randn(3, 4)), torch.randn(3, 4))
            loss.backward()
            optimizer.step()
            number = loss.item()
            log(number)
    return sorted(((r.key, r.calls, r.cost) for r in c.profile.records), key=str)


LOGS: dict[str, Callable[[Any], object]] = {
    "format": lambda v: f"{v:.4f} {v} {v!r}" + f"{v:>8.2e}",
    "percent": lambda v: "%.4f of %s" % (v, v),  # noqa: UP031  (as programs do)
    "str.format": "{:6.3f}".format,
    "mean": lambda v: sum([v, v, 1.0]) / 3 - v**0.5 * -v,
    "array": lambda v: np.mean([v, 2.0]),
    "round": lambda v: abs(round(v, 3)),
    "copy": lambda v: copy.deepcopy({"loss": v}),
    "max": lambda v: max(v, 1.0) + min([0.5, v]) - max(2, v, 3) * min(v, v),
    "product": lambda v: torch.ones(2) * v + v,
    "argument": lambda v: (
        torch.zeros(2).add_(torch.ones(2), alpha=v * 2).addcdiv_(torch.ones(2), torch.ones(2), value=v)
    ),
    "bounds by name": lambda v: torch.zeros(2).clamp_(min=max(v, 1e-3)).clamp(max=min(v, 2.0)),
    "many": lambda v: torch._foreach_mul_([torch.ones(2), torch.ones(3)], v),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs("numbers of any class as scalars of operators") if name == "argument" else ())
        for name in LOGS
    ],
)
def test_a_loss_that_is_logged_costs_what_it_costs_in_a_real_run(name: str) -> None:
    assert trained(LOGS[name], dry=True) == trained(LOGS[name], dry=False)


@needs("numbers of any class as scalars of operators")
@pytest.mark.parametrize("foreach", [False, None])
def test_an_optimizer_scales_its_step_by_the_norms_of_parameters(foreach: bool | None) -> None:
    def program(model: nn.Module) -> None:
        optimizer = torch.optim.Adafactor(model.parameters(), weight_decay=0.1, foreach=foreach)
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    assert_same_counts(lambda: nn.Sequential(nn.Linear(4, 80), nn.Linear(80, 80)), program)


def stops(number: float) -> None:
    if not math.isfinite(number) or math.isnan(number) or not np.isfinite(number):
        raise SystemExit(1)


def checked(number: float) -> None:
    if number < 0:
        raise ValueError(number)
    if not number > -1.0:
        raise ValueError(number)


def is_itself(number: float) -> None:
    if number != number or not number == number:  # noqa: PLR0124  (as programs ask)
        raise SystemExit(1)


@pytest.mark.parametrize("log", [stops, checked, is_itself, lambda v: isinstance(v, float) and isinstance(v, Number)])
def test_a_loss_passes_checks(log: Callable[[Any], object]) -> None:
    assert trained(log, dry=True) == trained(log, dry=False)


DECISIONS: dict[str, Callable[[Any], object]] = {
    "comparison": lambda v: [0][v < 1.0 :],
    "truth": lambda v: 1 if v else 2,
    "equality": lambda v: v == 1.0 or None,
    "max by a key": lambda v: max([0, v], [1, v], key=lambda pair: pair[1]),
    "max of pairs": lambda v: max((v, 1), (1.0, 2)),
    "bounded argument": lambda v: torch.zeros(2).add_(torch.ones(2), alpha=min(v, 1.0)),
    "value of a product": lambda v: torch.zeros(2).add_(v).tolist(),
    "value of many": lambda v: torch._foreach_add([torch.arange(2.0)], v)[0].tolist(),
    "float": float,
    "int": int,
    "index": lambda v: [1, 2][v],
    "range": range,
    "hash": lambda v: {v: 1},
    "exp": math.exp,
    "pickle": pickle.dumps,
    "json": lambda v: json.dumps({"loss": v}),
    "tensor": lambda v: torch.tensor([v]),
    "power": lambda v: torch.ones(2) ** v,
    "fill": lambda v: torch.full((2,), v),
    "numpy": np.float32,
    "ufunc": np.exp,
    "derived": lambda v: [1, 2][(v + 1) * 2 > 3],
}


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_decided_by_a_loss_is_refused(name: str) -> None:
    with pytest.raises(DryRunError, match=r"dry_run=False"):
        trained(DECISIONS[name], dry=True)


def test_a_refused_decision_names_where_the_number_came_from() -> None:
    model = nn.Linear(4, 4)

    def step() -> float:
        return model(torch.randn(3, 4)).sum().item()  # type: ignore[no-any-return]

    with pytest.raises(DryRunError) as caught, OpCounter(model, dry_run=True):
        int(step())
    assert caught.value.operator == "aten._local_scalar_dense.default"
    assert caught.value.line == step.__code__.co_firstlineno + 1


def test_a_module_gets_no_number_that_is_not_known() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            largest = x.max().item()
            return x / largest

    model = nn.Sequential(nn.Linear(4, 4), Asks())
    with pytest.raises(DryRunError) as caught, OpCounter(model, dry_run=True):
        model(torch.randn(3, 4))
    assert caught.value.module == "1"


def test_a_number_that_outlives_its_dry_run_decides_nothing() -> None:
    model = nn.Linear(4, 4)
    with OpCounter(model, dry_run=True):
        number = model(torch.randn(3, 4)).sum().item()
    assert f"{number:.1f}" == "nan"
    with pytest.raises(DryRunError):
        bool(number > 0)


def test_a_number_that_a_function_returns_decides_nothing_also_where_it_catches_errors() -> None:
    def value(x: Tensor) -> float:
        return x.item()

    def smaller(x: Tensor) -> int:
        try:
            return int(value(x))
        except RuntimeError:
            raise RuntimeError("try a smaller patch") from None

    with OpCounter(dry_run=True):
        assert f"{value(torch.ones(3).sum() * torch.rand(()))}" == "nan"
    with pytest.raises(DryRunError, match="_local_scalar_dense"), OpCounter(dry_run=True):
        smaller(torch.ones(3).sum() * torch.rand(()))


def test_a_counter_that_starts_at_a_known_number_is_logged() -> None:
    """A known integer is a real tensor, also when something unknown was added to it."""
    model = nn.Linear(4, 4)

    def evaluate(log: Callable[[Any], object]) -> None:
        correct = torch.tensor(0)
        assert correct.item() == 0
        correct += (model(torch.randn(3, 4)).argmax(-1) == torch.arange(3)).sum()
        number = correct.item()
        log(number)

    with OpCounter(model, dry_run=True) as c:
        evaluate(lambda number: f"{number / 3:.1f}")
    assert c.macs == 3 * 4 * 4
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        evaluate(range)


@pytest.mark.parametrize("log", [lambda v: v.item(), lambda v: v.detach()], ids=["number", "tensor"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_scheduler_waits_for_as_long_as_its_patience_lasts(mode: str, log: Callable[[Tensor], Any]) -> None:
    def program(model: nn.Module, steps: int = 2) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, patience=2)  # type: ignore[arg-type]
        for _ in range(steps):
            loss = model(torch.randn(3, 4)).sum()
            loss.backward()
            optimizer.step()
            plateau.step(log(loss))

    assert_same_counts(lambda: nn.Linear(4, 4), program)
    model = nn.Linear(4, 4)
    with pytest.raises(DryRunError), OpCounter(model, dry_run=True):
        program(model, steps=3)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the bytecode does not tell which call runs")
def test_a_number_that_is_dropped_is_not_asked_for() -> None:
    """Programs wait for an accelerator so; in a module, too."""

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.sum().item()
            return x @ x.T

    counts = []
    for dry in (False, True):
        model = nn.Sequential(nn.Linear(400, 400), Waits())
        with OpCounter(model, dry_run=dry) as c:
            model(torch.randn(3, 400)).sum().item()
        counts.append(c.by_module())
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "use",
    [
        lambda xs: xs.sort(key=Tensor.item),
        lambda xs: xs.sort(key=lambda x: x.item()),
        lambda xs: max(xs, key=Tensor.item),
    ],
    ids=["a method", "a function", "a result"],
)
def test_a_number_that_only_c_code_uses_is_not_dropped(use: Callable[[list[Tensor]], object]) -> None:
    class Uses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            use(list(x.sum(1)))
            return x

    model = nn.Sequential(nn.Linear(400, 400), Uses())
    with pytest.raises(DryRunError, match="needs the values"), OpCounter(model, dry_run=True):
        model(torch.randn(3, 400))
