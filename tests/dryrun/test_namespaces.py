"""Fake tensors that a program stores in globals, classes, closures and caches are removed after a dry run."""

from __future__ import annotations

import copy
import functools
import queue
import sys
import threading
import types
from array import array
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import parametrizations, parametrize

from opcount import OpCounter
from opcount.errors import DryRunError

TABLE: Any = None
READY = False
STORE: dict[str, Any] = {}
SHARED = types.SimpleNamespace(last=None)
CONTEXT: ContextVar[Any] = ContextVar("CONTEXT", default=None)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


@dataclass(slots=True)
class Slotted:
    last: Any = None
    kept: list[Any] = field(default_factory=list)


class Rows(list[Any]):
    last: Any = None


def global_variable(x: Tensor) -> Tensor:
    global TABLE, READY
    if not READY:
        TABLE, READY = x * 2, True
    return TABLE + x


def global_that_was_not_there(x: Tensor) -> Tensor:
    global LATE  # noqa: PLW0603
    if "LATE" not in globals():
        LATE = x * 2
    return LATE + x


def global_dict(x: Tensor) -> Tensor:
    return STORE.setdefault("table", x * 2) + x


def global_module(x: Tensor) -> Tensor:
    if "layer" not in STORE:
        STORE["layer"] = nn.Linear(4, 4)
    return STORE["layer"](x)


def global_object(x: Tensor) -> Tensor:
    if SHARED.last is None:
        SHARED.last = [x * 2]
    return SHARED.last[0] + x


def default_argument(x: Tensor, kept: list[Any] = []) -> Tensor:  # noqa: B006
    kept.append(x * 2)
    return kept[0] + x


def attribute_of_a_function(x: Tensor) -> Tensor:
    if not hasattr(attribute_of_a_function, "table"):
        attribute_of_a_function.table = x * 2
    return attribute_of_a_function.table + x


@functools.lru_cache
def _table(n: int) -> Tensor:
    return torch.arange(float(n))


@functools.cache
def _unbounded(n: int) -> Tensor:
    return torch.arange(float(n))


def cached_function(x: Tensor) -> Tensor:
    return _table(4) + _unbounded(4) + x


def context_variable(x: Tensor) -> Tensor:
    if CONTEXT.get() is None:
        CONTEXT.set(x * 2)
    return CONTEXT.get() + x


def closure() -> Any:
    table, kept = None, {}

    def run(x: Tensor) -> Tensor:
        nonlocal table
        if table is None:
            table = x * 2
        return table + kept.setdefault("kept", x * 3)

    return run


CODE = [
    global_variable, global_that_was_not_there, global_dict, global_module, global_object, default_argument,
    attribute_of_a_function, cached_function, context_variable, closure(),
]  # fmt: skip


def _is_real_afterwards(model: nn.Module, x: Tensor) -> bool:
    return not isinstance(model(x), FakeTensor)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("by", ["class", "instance", "decorated"])
@pytest.mark.parametrize("code", CODE)
def test_what_code_keeps_outside_of_the_model_is_not_fake_afterwards(code: Any, by: str, fails: bool) -> None:
    class Calls(Model):
        def __init__(self) -> None:
            super().__init__()
            self.code = code

        def forward(self, x: Tensor) -> Tensor:
            return (self.code if by == "instance" else code)(self.linear(x))  # type: ignore[no-any-return]

    if by == "decorated":
        Calls.forward = torch.no_grad()(Calls.forward)  # type: ignore[method-assign]
    model, x = Calls(), torch.ones(2, 4)
    with pytest.raises(KeyError) if fails else torch.no_grad(), OpCounter(model, dry_run=True):
        model(x)
        if fails:
            raise KeyError
    assert _is_real_afterwards(model, x)
    assert _is_real_afterwards(model, x)


class KeptOnTheClass(Model):
    table: Any = None
    kept: ClassVar[dict[str, Any]] = {}

    @functools.lru_cache  # noqa: B019
    def cached(self) -> Tensor:
        return torch.arange(4.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            type(self).table = x * 2
            type(self).late = x * 3
        self.kept.setdefault("kept", x * 4)
        return self.table + self.cached() + self.kept["kept"] + self.late  # type: ignore[no-any-return]


def test_what_a_model_keeps_on_its_class_is_not_fake_afterwards() -> None:
    model, x = KeptOnTheClass(), torch.ones(2, 4)
    with OpCounter(model, dry_run=True):
        model(x)
    assert (KeptOnTheClass.table, KeptOnTheClass.kept, hasattr(KeptOnTheClass, "late")) == (None, {}, False)
    assert _is_real_afterwards(model, x)


class Holds(Model):
    def __init__(self) -> None:
        super().__init__()
        self.slotted, self.rows, self.local = Slotted(), Rows(), threading.local()
        self.proxy, self.queue = types.MappingProxyType({"kept": []}), queue.Queue()
        self.deque, self.default, self.user = deque([0], maxlen=2), defaultdict(list), UserDict()
        self.chain, self.ordered = ChainMap({}), OrderedDict(a=1, b=2)
        self.numbers, self.array, self.bytes = np.zeros(4, np.float32), array("f", [0.0]), bytearray(2)

    def forward(self, x: Tensor) -> Tensor:
        self.slotted.last = self.rows.last = self.local.last = self.chain["last"] = self.user["last"] = x * 2
        self.slotted.kept.append(x)
        self.proxy["kept"].append(x)
        self.queue.put(x)
        self.deque.extend([x, x])
        self.default["kept"].append(x)
        self.ordered.move_to_end("a")
        self.numbers += 1
        self.array[0] += 1
        self.bytes[0] += 1
        return self.linear(x)  # type: ignore[no-any-return]

    def held(self) -> tuple[Any, ...]:
        return (
            self.slotted.last, self.slotted.kept, self.rows.last, vars(self.local), self.proxy["kept"],
            self.queue.qsize(), list(self.deque), dict(self.default), dict(self.user), dict(self.chain),
            list(self.ordered), self.numbers.tolist(), self.array.tolist(), bytes(self.bytes),
        )  # fmt: skip


def test_objects_of_any_kind_hold_what_they_held() -> None:
    model = Holds()
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 4))
    assert model.held() == (
        None, [], None, {}, [], 0, [0], {}, {}, {}, ["a", "b"], [0.0] * 4, [0.0], b"\0\0"
    )  # fmt: skip


def test_what_is_not_fake_stays_where_code_has_put_it() -> None:
    seen: list[int] = []
    kept = _table(3)

    class Counts(Model):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Counts.calls += 1
            seen.append(len(x))
            return self.linear(x) + _table(4)  # type: ignore[no-any-return]

    model = Counts()
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 4))
    assert (seen, Counts.calls) == ([2], 1)
    assert _table(3) is kept
    assert type(_table(4)) is Tensor


def test_containers_of_the_program_are_not_asked_for_what_they_make() -> None:
    class Makes(OrderedDict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError(name)

    class Uses(Model):
        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)  # type: ignore[no-any-return]

    model = Uses()
    model.makes = Makes(a=int)
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 4))
    assert list(OrderedDict.items(model.makes)) == [("a", int)]


def test_a_parametrization_that_is_removed_inside_is_there_afterwards() -> None:
    class Removes(Model):
        def forward(self, x: Tensor) -> Tensor:
            if parametrize.is_parametrized(self.linear):
                parametrize.remove_parametrizations(self.linear, "weight")
            return self.linear(x)  # type: ignore[no-any-return]

    model = Removes()
    parametrizations.weight_norm(model.linear)
    with OpCounter(model, dry_run=True):
        model(torch.ones(2, 4))
    assert parametrize.is_parametrized(model.linear)
    assert type(model.linear.weight) is Tensor


def test_a_variable_of_a_module_that_forward_imports_is_not_fake_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = types.ModuleType("constants_of_a_program")
    constants.TABLE, constants.KEPT = None, {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, constants.__name__, constants)

    class Imports(Model):
        def forward(self, x: Tensor) -> Tensor:
            import constants_of_a_program as here  # noqa: PLC0415

            if here.TABLE is None:
                here.TABLE = x * 2
            return self.linear(x) + here.TABLE + here.KEPT.setdefault("kept", x * 3)  # type: ignore[no-any-return]

    model, x = Imports(), torch.ones(2, 4)
    with OpCounter(model, dry_run=True):
        model(x)
    assert (constants.TABLE, constants.KEPT) == (None, {})  # type: ignore[attr-defined]
    assert _is_real_afterwards(model, x)


@pytest.mark.parametrize(
    "statement",
    ["import box.shelf as shelf", "from box import shelf", "from . import shelf", "from .shelf import KEPT"],
)
def test_a_cache_is_not_fake_afterwards_whatever_statement_in_forward_imports_it(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, shelf = types.ModuleType("box"), types.ModuleType("box.shelf")
    box.__path__, box.shelf, shelf.KEPT = [], shelf, {}  # type: ignore[attr-defined]
    for module in (box, shelf):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    variables: dict[str, Any] = {"__name__": "box.model", "__package__": "box", "Model": Model}
    kept = "KEPT" if statement.endswith("KEPT") else "shelf.KEPT"
    source = f"""
class Imports(Model):
    def forward(self, x):
        def look():
            {statement}
            return {kept}.setdefault("kept", x * 3)
        return self.linear(x) + look()
"""
    exec(source, variables)  # noqa: S102  (the package is the test's own)
    model, x = variables["Imports"](), torch.ones(2, 4)
    with OpCounter(model, dry_run=True):
        model(x)
    assert shelf.KEPT == {}  # type: ignore[attr-defined]
    assert _is_real_afterwards(model, x)


def test_attributes_of_parameters_are_as_before_to_any_depth() -> None:
    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    model.bias.requires_grad_(False)
    model.weight.kept, model.weight.last = {"a": []}, None  # type: ignore[attr-defined]
    with OpCounter(model, dry_run=True):
        model.weight.kept["a"].append(model(x))  # type: ignore[attr-defined]
        model.weight.last = model.bias.new = model(x)  # type: ignore[attr-defined]
    assert vars(model.weight) == {"kept": {"a": []}, "last": None}
    assert vars(model.bias) == {}


def test_hooks_of_tensors_and_modules_are_as_before() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.ones(2, 4)
    first, second = model[0].weight, model[1].weight
    handles = [
        first.register_hook(lambda grad: grad * 2),
        first.register_post_accumulate_grad_hook(lambda _: None),
        model[0].register_forward_hook(lambda _m, _a, out: out * 3),
    ]
    model(x).sum().backward()
    before = [first.grad, second.grad]
    model.zero_grad()
    with OpCounter(model, dry_run=True):
        for handle in handles:
            handle.remove()
        second.register_hook(lambda grad: grad * 5)
        second.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
        model(x).sum().backward()
    model(x).sum().backward()
    assert [torch.equal(a, b) for a, b in zip(before, [first.grad, second.grad], strict=True)] == [True, True]


@pytest.mark.parametrize("own", [False, True])
def test_a_module_that_is_called_with_other_parameters_keeps_its_own(own: bool) -> None:
    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    others = {name: nn.Parameter(torch.ones_like(tensor)) for name, tensor in model.named_parameters()}
    before = dict(model.named_parameters())
    with OpCounter(dry_run=True) as c:
        given = {name: tensor * 2 for name, tensor in before.items()} if own else others
        torch.func.functional_call(model, given, (x,))
        torch.func.functional_call(model, given, (x,))
    assert all(tensor is before[name] for name, tensor in model.named_parameters())
    assert c.macs == 2 * (2 * 4 * 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 10),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
        lambda o: torch.optim.lr_scheduler.ChainedScheduler([torch.optim.lr_scheduler.StepLR(o, 1)]),
    ],
)
def test_a_schedule_does_not_go_on(make: Any) -> None:
    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    schedule = make(optimizer)
    before = copy.deepcopy((schedule.state_dict(), optimizer.state_dict()))
    for _ in range(2):
        with OpCounter(model, dry_run=True):
            model(x).sum().backward()
            optimizer.step()
            schedule.step()
    assert (schedule.state_dict(), optimizer.state_dict()) == before


def test_a_generator_that_keeps_a_fake_tensor_is_named() -> None:
    def rows() -> Any:
        row = None
        while True:
            row = model.weight * 2 if row is None else row
            yield row

    model, x = nn.Linear(4, 4), torch.ones(4, 4)
    model.rows = rows()  # type: ignore[assignment]
    with pytest.raises(DryRunError, match=r"rows.* keeps a tensor of the dry run"), OpCounter(model, dry_run=True):
        model(x) + next(model.rows)


def test_containers_that_hold_themselves_are_looked_into_once() -> None:
    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    rows: list[Any] = [model.weight.detach()]
    table: dict[str, Any] = {"rows": rows}
    rows.append(table)
    table["table"] = table
    model.table = table  # type: ignore[assignment]
    with OpCounter(model, dry_run=True) as c:
        model.table["last"] = model(x)
        rows.append(model.table["last"])
    assert c.macs == 2 * 4 * 4
    assert (list(table), len(rows)) == (["rows", "table"], 2)
