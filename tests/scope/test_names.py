"""Every module has a path: in the model as `state_dict` spells it, outside of it by its class."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from opcount import OpCounter
from tests.scope.ledger import backward_calls_at_root, ledger, stacks

ROWS = 5


def data(width=2):
    return torch.randn(ROWS, width)


def line(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda m: nn.DataParallel(nn.DataParallel(m)),
    ],
    ids=["DataParallel", "OptimizedModule", "twice"],
)
def test_wrappers_do_not_show(wrap):
    model = nn.Sequential(line(2, 3), nn.Sequential(line(3, 7)))
    with OpCounter(wrapped := wrap(model)) as c:
        wrapped(data())
    assert ledger(c) == {("0", "forward"): ROWS * 2 * 3, ("1.0", "forward"): ROWS * 3 * 7}
    assert list(c.profile.modules) == ["", "0", "1", "1.0"]
    assert c.profile.modules["1"].calls == 1


def test_an_attribute_called_module_is_no_wrapper():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = line(2, 3)

        def forward(self, x):
            return self.module(x)

    with OpCounter(model := Mine()) as c:
        model(data())
    assert ledger(c) == {("module", "forward"): ROWS * 2 * 3}


def test_a_subclass_of_a_wrapper_is_a_wrapper():
    class Parallel(nn.DataParallel):
        pass

    with OpCounter(model := Parallel(nn.Sequential(line(2, 3)))) as c:
        model(data())
    assert ledger(c) == {("0", "forward"): ROWS * 2 * 3}


def test_a_shared_module_has_one_path_and_tells_its_aliases():
    model = nn.ModuleDict({"one": nn.Sequential(line(3, 3)), "two": nn.Sequential(line(3, 3))})
    model["two"][0] = model["one"][0]
    with OpCounter(model) as c:
        model["two"](model["one"](data(3)))
    assert stacks(c, "forward") == {("", "one", "one.0"): ROWS * 9, ("", "two", "one.0"): ROWS * 9}
    assert c.profile.modules["one.0"].aliases == ("two.0",)
    assert c.by_module()["one"].macs == 2 * ROWS * 9
    assert {path: c.by_module("caller")[path].macs for path in ("one", "two")} == {"one": ROWS * 9, "two": ROWS * 9}


def test_a_module_that_is_added_inside_the_block_bears_its_path():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([line(2, 3)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    with OpCounter(model := Growing()) as c:
        model.layers.append(line(3, 7))
        model(data())
    assert ledger(c) == {("layers.0", "forward"): ROWS * 2 * 3, ("layers.1", "forward"): ROWS * 3 * 7}


def test_a_module_that_replaces_another_takes_its_path_and_the_old_one_is_freed():
    model = nn.Sequential(line(2, 3))
    old = weakref.ref(model[0])
    with OpCounter(model) as c:
        for _ in range(20):
            model(data())
            model[0] = line(2, 3)
        gc.collect()
        assert old() is None
        assert len(c._scopes.names.paths) <= 2
    assert ledger(c) == {("0", "forward"): 20 * ROWS * 2 * 3}


def test_modules_outside_the_model_are_named_by_their_class_below_their_caller():
    outside = line(2, 7)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()
            self.others = [outside]  # a list hides it

        def forward(self, x):
            return self.others[0](self.inner(x))

    with OpCounter(model := nn.Sequential(Model())) as c:
        model(data())
        line(2, 3)(data())
    assert ledger(c) == {("0.Linear", "forward"): ROWS * 2 * 7, ("Linear", "forward"): ROWS * 2 * 3}


def test_without_a_model_modules_of_one_class_are_told_apart():
    first, second = nn.Sequential(line(2, 3)), nn.Sequential(line(2, 7))
    with OpCounter() as c:
        second(data())
        first(data())
    assert ledger(c) == {("Sequential.0", "forward"): ROWS * 2 * 7, ("Sequential_1.0", "forward"): ROWS * 2 * 3}


def test_modules_that_are_made_and_freed_do_not_grow_the_count():
    with OpCounter() as c:
        for _ in range(200):
            line(2, 3)(data())
        gc.collect()
        assert len(c._scopes.names.paths) == 0
    assert ledger(c) == {("Linear", "forward"): 200 * ROWS * 2 * 3}


def test_many_modules_that_stay_alive_are_all_named():
    layers = [line(2, 3) for _ in range(300)]
    with OpCounter() as c:
        for layer in layers:
            layer(data())
    assert len(ledger(c)) == 300
    assert ("Linear_299", "forward") in ledger(c)


def test_forward_called_directly_belongs_to_the_caller():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = line(2, 3)

        def forward(self, x):
            return self.inner.forward(x)

    with OpCounter(model := nn.Sequential(Model())) as c:
        model(data())
    assert ledger(c) == {("0", "forward"): ROWS * 2 * 3}
    assert c.profile.modules["0.inner"].calls == 0


def test_a_module_with_a_call_of_its_own_is_counted():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = line(2, 3)

        def __call__(self, x):
            return super().__call__(x).tanh()

        def forward(self, x):
            return self.inner(x)

    with OpCounter(model := nn.Sequential(Called())) as c:
        model(data())
    assert ledger(c) == {("0.inner", "forward"): ROWS * 2 * 3}


def test_lazy_modules_make_their_parameters_inside():
    model = nn.Sequential(nn.LazyLinear(3, bias=False), nn.LazyLinear(7, bias=False))
    with OpCounter(model) as c:
        model(data()).sum().backward()
    assert ledger(c, phases={"forward"}) == {("0", "forward"): ROWS * 2 * 3, ("1", "forward"): ROWS * 3 * 7}
    assert ledger(c, phases={"backward"}) == {("0", "backward"): ROWS * 2 * 3, ("1", "backward"): 2 * ROWS * 3 * 7}
    assert [module.type for module in c.profile.modules.values()] == ["Sequential", "Linear", "Linear"]
    assert c.params == 2 * 3 + 3 * 7


def test_parametrizations_are_modules_below_what_they_parametrize():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.randn(3, 3))

        def forward(self, weight):
            return self.factor @ weight

    model = nn.Sequential(line(2, 3))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Product())
    with OpCounter(model) as c:
        model(data())
    path = "0.parametrizations.weight.0"
    assert ledger(c) == {("0", "forward"): ROWS * 2 * 3, (path, "forward"): 3 * 3 * 2}


def test_weight_norm_is_counted():
    model = nn.Sequential(parametrizations.weight_norm(line(2, 3)))
    with OpCounter(model) as c:
        model(data()).sum().backward()
    assert ledger(c) == {("0", "forward"): ROWS * 2 * 3, ("0", "backward"): ROWS * 2 * 3}
    assert c.coverage.complete


@pytest.mark.filterwarnings("ignore:`torch.jit.script")
def test_a_scripted_module_is_seen_as_a_whole():
    scripted = torch.jit.script(nn.Sequential(line(2, 3), line(3, 7)))
    with OpCounter(scripted) as c:
        scripted(data())
    assert c.macs == ROWS * 2 * 3 + ROWS * 3 * 7


def test_a_bound_on_the_timeline_is_kept_and_told():
    model = nn.Sequential(line(2, 3), line(3, 2))
    with OpCounter(model) as c:
        timeline = c._scopes.threads.by_ident[next(iter(c._scopes.threads.by_ident))].timeline
        timeline.capacity = 64
        loss = model(data()).sum()
        for _ in range(500):
            model(data()).sum().backward()
        assert len(timeline.bounds) <= 64
        assert not c.coverage.unattributed
        loss.backward()  # a graph as old as that is no longer known
    assert (
        c.coverage.unattributed["forward was not observed"] == backward_calls_at_root(c) - 500
    )  # sums of the known graphs
    assert c.macs == 501 * ROWS * (2 * 3 + 3 * 2) + 501 * ROWS * (2 * 3 + 2 * 3 * 2)
