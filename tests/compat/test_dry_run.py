"""A dry run that is asked for: the same numbers and texts, nothing computed, nothing touched; or a clear error."""

from __future__ import annotations

import copy
import functools
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from opcount import OpCounter, get_model_complexity_info
from opcount.compat import fvcore, mmengine
from opcount.errors import DryRunError
from tests.compat import zoo
from tests.compat.test_analyzers import Noisy, state

ANALYSES = [
    mmengine.FlopAnalyzer,
    mmengine.ActivationAnalyzer,
    fvcore.FlopCountAnalysis,
    fvcore.ActivationCountAnalysis,
]
analyses = pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: analysis.__name__)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.norm, self.out = nn.LayerNorm(8), nn.Bilinear(8, 8, 3)

    def forward(self, x):
        x = self.norm(self.gru(x)[0])
        return self.out(x, x)


class Grows(nn.Module):
    """Makes a module when it is first called."""

    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Linear(x.shape[-1], 2)
        return self.late(x)


MODELS = [
    (zoo.TestNet, (1, 10)),
    (zoo.dcgan_generator, (100, 1, 1)),
    (Recurrent, (7, 6)),
    (Noisy, (3, 8, 8)),
    (Grows, (3,)),
    (lambda: torch.fx.symbolic_trace(zoo.TestNet()), (1, 10)),
]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_texts_and_numbers_are_those_of_a_real_run(make, shape, grad, train):
    with grad():
        dry = get_model_complexity_info(make().train(train), shape, dry_run=True)
        assert dry == get_model_complexity_info(make().train(train), shape, dry_run=False)


@analyses
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_every_analysis_answers_as_after_a_real_run(analysis, make, shape):
    inputs = (torch.ones(1, *shape),)
    dry, real = (analysis(make(), inputs, dry_run=dry_run) for dry_run in (True, False))
    assert dry.total() == real.total()
    assert dry.by_module_and_operator() == real.by_module_and_operator()
    assert dry.unsupported_ops() == real.unsupported_ops()
    assert dry.uncalled_modules() == real.uncalled_modules()


@analyses
def test_nothing_is_computed_and_the_model_does_not_run(analysis):
    model = Noisy()
    before = state(model)
    analysis(model, torch.ones(2, 3, 8, 8), dry_run=True).total()
    assert model.calls == 0
    assert state(model) == before


@analyses
@pytest.mark.parametrize("dry_run", [None, False])
def test_a_model_with_values_is_computed_once_unless_a_dry_run_is_asked_for(analysis, dry_run):
    model = Noisy()
    analysis(model, torch.ones(2, 3, 8, 8), dry_run=dry_run).total()
    assert model.calls == 1


@analyses
def test_a_model_on_the_meta_device_is_counted_dry(analysis):
    model = zoo.TestNet()
    real = analysis(model, torch.ones(1, 1, 10))
    dry = analysis(model.to("meta"), torch.ones(1, 1, 10))  # on the CPU: a meta model itself would refuse it
    assert dry.by_module_and_operator() == real.by_module_and_operator()
    assert dry.copy().total() == real.total()


class Asks(nn.Module):
    """Computes in another way where it gets no value."""

    def __init__(self, *, catches=False):
        super().__init__()
        self.catches = catches
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 400)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        try:
            small = (self.a(x).abs().sum() >= 0).item()
        except RuntimeError:
            if not self.catches:
                raise
            small = False
        return self.a(x) if small else self.b(x)


@analyses
@pytest.mark.parametrize("catches", [False, True])
def test_a_model_that_asks_for_values_is_refused_dry_and_counted_real(analysis, catches):
    model = Asks(catches=catches)
    with pytest.raises(DryRunError, match=r"_local_scalar_dense.* needs the values"):
        analysis(model, torch.ones(1, 4), dry_run=True).total()
    assert model.calls == 0
    assert analysis(model, torch.ones(1, 4)).total() in {2 * 4 * 4, 2 * 4}
    assert model.calls == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@analyses
def test_a_model_that_has_no_copy_without_its_data_is_refused(analysis):
    with pytest.raises(DryRunError, match="ScriptModule"):
        analysis(torch.jit.script(nn.Linear(4, 4)), torch.ones(1, 4), dry_run=True).total()


def test_the_functions_pass_the_wish_on():
    model = Noisy()
    for module in (mmengine, fvcore):
        module.flop_count(model, torch.ones(1, 3, 8, 8), dry_run=True)
        module.activation_count(model, torch.ones(1, 3, 8, 8), dry_run=True)
    assert model.calls == 0


@functools.cache
def grid(size):
    return torch.arange(size)


class Caches(nn.Module):
    def forward(self, x):
        return x * grid(x.shape[-1])


@pytest.mark.parametrize("dry_run", [True, False])
def test_caches_of_the_program_are_not_emptied(dry_run):
    grid.cache_clear()
    kept = grid(3)
    get_model_complexity_info(Caches(), (3,), dry_run=dry_run)
    assert grid(3) is kept
    assert not isinstance(grid(3), FakeTensor)


class Hidden:
    """An argument that holds a tensor."""

    def __init__(self, x):
        self.x = x


def test_an_argument_may_hold_tensors():
    class Opens(nn.Module):
        def forward(self, hidden):
            return hidden.x.add_(1) @ hidden.x

    hidden = Hidden(torch.ones(3, 3))
    assert get_model_complexity_info(Opens(), inputs=(hidden,), dry_run=True)["flops"] == 3 * 3 * 3
    assert torch.equal(hidden.x, torch.ones(3, 3))


def test_inputs_are_not_written_to():
    class Writes(nn.Module):
        def forward(self, x):
            return x.add_(1) @ torch.ones(3, 5)

    x = torch.ones(2, 3)
    assert get_model_complexity_info(Writes(), inputs=x, dry_run=True)["flops"] == 2 * 3 * 5
    assert x.tolist() == torch.ones(2, 3).tolist()


def test_an_outer_counter_sees_the_same_in_a_dry_run():
    model = nn.Linear(3, 3)
    for dry_run in (True, False):
        with OpCounter() as outer:
            get_model_complexity_info(model, (3,), dry_run=dry_run)
        assert outer.macs == 9


class Locked:
    """Has no copy, and so is shared with a skeleton."""

    def __init__(self):
        self.lock, self.kept = threading.Lock(), []

    def __deepcopy__(self, memo):
        raise TypeError("cannot copy a lock")


GLOBALS = {}


def keep_globally(x):
    GLOBALS["kept"] = x
    return x


class KeepsElsewhere(nn.Module):
    """Puts tensors where a copy of the model and the model meet."""

    of_class = None

    def __init__(self):
        super().__init__()
        self.linear, self.locked, self.function = nn.Linear(3, 3), Locked(), keep_globally
        self.table = [[self.locked]]

    def forward(self, x):
        x = self.function(self.linear(x))
        self.locked.kept.append(x)
        type(self).of_class = x
        return x


def test_nothing_fake_is_left_in_what_a_model_shares_with_its_copy():
    model = KeepsElsewhere()
    info = get_model_complexity_info(model, (3,), dry_run=True)
    assert (info["flops"], model.locked.kept, KeepsElsewhere.of_class, GLOBALS) == (9, [], None, {})


class Copied(nn.Module):
    """Is copied in its own way, with all tensors in it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x)

    def __deepcopy__(self, memo):
        made = type(self)()
        made.linear.weight = copy.deepcopy(self.linear.weight, memo)
        made.linear.bias = copy.deepcopy(self.linear.bias, memo)
        return made


def test_a_part_that_is_copied_in_its_own_way_is_counted():
    model = nn.Sequential(Copied(), nn.BatchNorm1d(3))
    info = get_model_complexity_info(model, inputs=torch.ones(2, 3), dry_run=True)
    assert info["flops"] == get_model_complexity_info(model, inputs=torch.ones(2, 3))["flops"] == 18 + 30


def test_small_values_of_the_model_are_known_and_not_written_to():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.tensor([2.0]))
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            self.steps += 1
            for _ in range(int(self.steps)):
                x = self.linear(x)
            return x

    model = Counts()
    assert get_model_complexity_info(model, (3,), dry_run=True)["flops"] == 27
    assert model.steps.item() == 2
