"""A dry run answers where it is sure to be right; where not, a real one does, as if nothing had been tried."""

from __future__ import annotations

import functools
import logging
import random

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from opcount import OpCounter, get_model_complexity_info
from opcount.compat import dry, run
from opcount.dryrun.obstacles import obstacle
from opcount.errors import DryRunError
from tests.compat import zoo
from tests.compat.test_mmengine import Noisy, state


@pytest.fixture(autouse=True)
def eager_to_be_dry(monkeypatch):
    """Try a dry run always, and forget what was said before."""
    monkeypatch.setattr(dry, "_not_worth_it", lambda _: "")
    monkeypatch.setattr(dry, "_told", set())


@pytest.fixture
def computed(monkeypatch):
    """Return a list that grows with each real run."""
    runs = []
    real = run.computed
    monkeypatch.setattr(run, "computed", lambda refusal: runs.append(refusal) or real(refusal))
    return runs


def really(monkeypatch, model, **arguments):
    def refuse(*_):
        raise dry.Refusal("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(run, "dry_profile", refuse)
        return get_model_complexity_info(model, **arguments)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.lstm = nn.GRU(6, 5, batch_first=True), nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)
        self.norm, self.out = nn.LayerNorm(8), nn.Bilinear(8, 8, 3)

    def forward(self, x):
        x = self.norm(self.lstm(self.gru(x)[0])[0])
        return self.out(x, x)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (zoo.TestNet, (1, 10)),
        (zoo.dcgan_generator, (100, 1, 1)),
        (Recurrent, (7, 6)),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16), (3, 8)),
        (Noisy, (3, 8, 8)),
    ],
)
def test_texts_and_numbers_are_those_of_a_real_run(monkeypatch, computed, make, shape, grad, train):
    model = make().train(train)
    with grad():
        dried = get_model_complexity_info(model, shape)
        fused = isinstance(model, nn.TransformerEncoderLayer) and not train and grad is not torch.enable_grad
        assert bool(computed) == fused
        assert dried == really(monkeypatch, model, input_shape=shape)


def test_nothing_is_computed_and_the_model_runs_once(computed):
    model = Noisy()
    before = state(model)
    get_model_complexity_info(model, inputs=torch.ones(2, 3, 8, 8))
    assert (computed, model.calls) == ([], 1)
    assert state(model) == before


class Asks(nn.Module):
    """Leaves its traces, then asks for a value; or catches the error and goes on in another way."""

    def __init__(self, *, catches=False):
        super().__init__()
        self.catches = catches
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 400)
        self.calls, self.seen, self.helper = 0, [], Helper()

    def forward(self, x):
        self.calls += 1
        self.seen.append(random.random())
        self.helper.remember(x)
        self.extra = x
        try:
            small = (self.a(x).abs().sum() >= 0).item()
        except RuntimeError:
            if not self.catches:
                raise
            small = False
        return self.a(x) if small else self.b(x)


class Helper:
    """Keeps a tensor where no module does."""

    def __init__(self):
        self.last, self.table = None, {}

    def remember(self, x):
        self.last = self.table["x"] = x + 1


@pytest.mark.parametrize("catches", [False, True])
def test_a_model_that_asks_for_values_is_computed_once_as_if_nothing_was_tried(computed, caplog, catches):
    model = Asks(catches=catches)
    for times in (1, 2):
        info = get_model_complexity_info(model, inputs=torch.ones(1, 4))
        assert info["flops"] == 2 * 4 * 4
        assert (model.calls, len(model.seen), len(computed)) == (times, times, times)
    assert model.helper.last.tolist() == model.helper.table["x"].tolist() == [[2.0] * 4]
    assert model.extra.tolist() == [[1.0] * 4]
    (message,) = caplog.messages  # the second time is no news
    assert message.startswith("dry run: aten._local_scalar_dense.default in the model itself needs the values")
    assert message.endswith("Computed instead.")


def test_a_counter_does_not_pass_off_a_guess_for_a_count():
    model = Asks(catches=True)
    message = r"_local_scalar_dense.* caught inside"
    with pytest.raises(DryRunError, match=message), OpCounter(model, dry_run=True):
        model(torch.ones(1, 4))


def test_an_error_of_the_models_own_is_raised_by_one_forward(caplog):
    model = Noisy(fails=True)
    with pytest.raises(KeyError, match="on purpose"):
        get_model_complexity_info(model, (3, 8, 8))
    assert model.calls == 1
    assert not caplog.messages


@functools.cache
def grid(size):
    return torch.arange(size)


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.helper = Helper()

    def forward(self, x):
        self.helper.remember(x)
        return x * grid(x.shape[-1])


def test_no_fake_tensor_is_left_in_helpers_and_caches(computed):
    model = Keeps()
    get_model_complexity_info(model, (3,))
    assert not computed
    assert (model.helper.last, model.helper.table) == (None, {})
    assert not isinstance(grid(3), FakeTensor)
    assert model(torch.ones(3)).tolist() == [0, 1, 2]


def test_a_tensor_that_stays_is_told_of(caplog):
    kept = []

    class Leaks(nn.Module):
        def forward(self, x):
            kept.append(x)
            return x

    get_model_complexity_info(Leaks(), (3,))
    assert caplog.messages == ["dry run: Leaks put tensors that have no values where they stay."]


class Grows(nn.Module):
    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Linear(x.shape[-1], 2)
        return self.late(x)


def test_modules_made_in_forward_are_real_and_counted(computed):
    model = Grows()
    info = get_model_complexity_info(model, (3,))
    assert (info["flops"], info["params"], len(computed)) == (6, 8, 1)
    assert not isinstance(model.late.weight, FakeTensor)


class Hidden:
    """An argument that holds a tensor."""

    def __init__(self, x):
        self.x = x


def test_arguments_that_hide_tensors_are_left_to_a_real_run(computed):
    class Opens(nn.Module):
        def forward(self, hidden):
            return hidden.x @ hidden.x

    assert get_model_complexity_info(Opens(), inputs=Hidden(torch.ones(3, 3)))["flops"] == 27
    assert len(computed) == 1


def test_inputs_are_not_written_to():
    class Writes(nn.Module):
        def forward(self, x):
            return x.unsqueeze_(0).add_(1) @ torch.ones(3, 5)

    x = torch.ones(2, 3)
    assert get_model_complexity_info(Writes(), inputs=x)["flops"] == 2 * 3 * 5
    assert x.tolist() == torch.ones(2, 3).tolist()


@torch.library.custom_op("opcount_dry_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x @ x


@twice.register_fake
def _(x):
    return torch.empty_like(x)


def test_an_operator_that_is_opened_when_it_computes_is_computed(computed):
    class Custom(nn.Module):
        def forward(self, x):
            return twice(x)

    assert get_model_complexity_info(Custom(), inputs=torch.ones(3, 3))["flops"] == 27
    assert len(computed) == 1


def unmade():
    model = nn.Module()
    model.weight = nn.UninitializedParameter()
    return model


def hooked():
    model = nn.Linear(3, 3)
    model.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (hooked, "Linear has hooks"),
        (unmade, "UninitializedParameter"),
        (lambda: nn.DataParallel(nn.Linear(3, 3)), "DataParallel runs more"),
        (lambda: torch.jit.script(nn.Linear(3, 3)), "runs more"),
        (lambda: nn.MultiheadAttention(4, 2).eval().requires_grad_(requires_grad=False), "one fused operator"),
        (lambda: nn.Linear(3, 3, dtype=torch.complex64), "a tensor is a Parameter"),
    ],
)
def test_what_may_differ_is_not_tried_and_not_talked_about(make, why):
    assert why in obstacle(make())


def test_under_another_dispatch_mode_the_run_is_real(computed):
    with OpCounter() as outer:
        assert get_model_complexity_info(nn.Linear(3, 3), (3,))["flops"] == 9
    assert (outer.macs, len(computed)) == (9, 1)


def test_a_first_dry_run_waits_until_it_pays(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.undo()
    monkeypatch.delitem(dry.sys.modules, "torch._dynamo", raising=False)
    monkeypatch.setattr(dry, "_spent", 0.0)
    assert dry._not_worth_it(nn.Linear(3, 3))
    assert not dry._not_worth_it(nn.Linear(3, 3, device="meta"))
    monkeypatch.setattr(dry, "_spent", 2 * dry._PATIENCE)
    assert not dry._not_worth_it(nn.Linear(3, 3))
