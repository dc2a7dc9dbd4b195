"""Fake tensors whose sizes are expressions: everything can be read, and nothing is learned of the sizes by counting."""

from fractions import Fraction
from importlib import import_module

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter, Profile
from opcount.budget import Budget, baseline
from opcount.budget.baseline import take
from opcount.cli.formats import FORMATS
from opcount.cost import Cost
from opcount.reporter import diff_table
from opcount.reporter.table import render

PROGRAMS = {
    "linear": ((5, 4), lambda x: nn.functional.linear(x, torch.ones(6, 4), torch.ones(6))),
    "convolution": ((2, 3, 8, 8), lambda x: nn.functional.conv2d(x, torch.ones(4, 3, 3, 3), padding=1)),
    "transposed convolution": (
        (2, 3, 8, 8),
        lambda x: nn.functional.conv_transpose2d(x, torch.ones(3, 4, 2, 2), stride=2),
    ),
    "batch norm": ((2, 3, 8, 8), lambda x: nn.functional.batch_norm(x, torch.ones(3), torch.ones(3), training=True)),
    "layer norm": ((5, 4), lambda x: nn.functional.layer_norm(x, (4,))),
    "group norm": ((2, 6, 8, 8), lambda x: nn.functional.group_norm(x, 2)),
    "instance norm": ((2, 6, 8, 8), nn.functional.instance_norm),
    "attention": ((2, 4, 7, 8), lambda x: nn.functional.scaled_dot_product_attention(x, x, x)),
    "encoder": ((2, 7, 8), lambda x: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()(x) * 1),
    "gru": ((2, 7, 8), lambda x: nn.GRU(8, 5)(x)[0]),
    "pools": ((2, 3, 8, 8), lambda x: nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 2), 1)),
    "grid": ((2, 3, 8, 8), lambda x: nn.functional.grid_sample(x, torch.ones(2, 5, 5, 2), align_corners=False)),
    "softmax": ((5, 4), lambda x: nn.functional.softmax(x, -1).log_softmax(-1)),
    "einsum": ((2, 5, 4), lambda x: torch.einsum("bij,bkj->bik", x, x)),
    "distances": ((5, 4), lambda x: torch.cdist(x, x)),
    "fft": ((5, 8), lambda x: torch.fft.rfft(x).abs()),
    "products": ((2, 5, 4), lambda x: torch.baddbmm(torch.ones(2, 5, 5), x, x.mT)),
    "elementwise": ((5, 4), lambda x: (x * 2 + x.exp()).sum(0).mean() + x.std()),
    "embedding": ((5, 4), lambda x: x @ nn.functional.embedding((x > 0).long()[0], torch.ones(7, 3))),
    "loss": ((5, 4), lambda x: nn.functional.cross_entropy(x, torch.zeros(5, dtype=torch.long))),
    "solve": ((5, 5), lambda x: torch.linalg.solve(x + 9 * torch.eye(5), x)),
}
OTHERS_INSIDE = {"attention", "encoder", "gru", "loss"}
"""Functions that are made of other operators on a CPU than under fake tensors."""
MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


class Empty(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def learned(env):
    """Return all that a shape environment knows of its sizes."""
    return (
        [str(guard.expr) for guard in env.guards],
        {str(symbol): str(value) for symbol, value in env.replacements.items()},
        {str(symbol): str(span) for symbol, span in env.var_to_range.items()},
        {str(symbol): [str(each.expr) for each in found] for symbol, found in env.deferred_runtime_asserts.items()},
    )


def run(shape, program, grad_mode, counter):
    """Run a program on a fake tensor with symbolic sizes; return what was learned of them."""
    torch.manual_seed(0)
    env = ShapeEnv()
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.ones(shape, requires_grad=grad_mode == "grad"))
    with mode, MODES[grad_mode](), counter:
        y = program(x)
        if grad_mode == "grad" and y.requires_grad:
            y.sum().backward()
    return env


def read_all(counter):
    """Read everything that can be read of a count; return the profile."""
    for number in ("macs", "flops", "arith", "activations", "params"):
        assert str(getattr(counter, number))
    assert str(counter)
    profile = counter.profile
    for view in ("by_module", "by_operator", "by_family", "by_phase", "by_dtype", "by_module_and_operator"):
        getattr(counter if view != "by_family" else profile, view)()
    for name in FORMATS:
        if name not in ("arch", "json"):
            import_module(f"opcount.reporter.{name}").render(profile)
    assert Profile.from_json(profile.to_json()) == profile
    assert diff_table.render(profile.diff(profile))
    text = baseline.dump(take(profile))
    assert baseline.dump(baseline.load(text, "x")) == text
    Budget.of("1 GMAC").check(profile)
    profile.explain()
    (profile + profile).total  # noqa: B018
    return profile


@pytest.mark.parametrize("grad_mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_count_is_that_of_the_sizes_at_hand_and_nothing_is_learned_of_them(name, grad_mode):
    shape, program = PROGRAMS[name]
    x = torch.ones(shape, requires_grad=grad_mode == "grad")
    with MODES[grad_mode](), OpCounter() as real:
        torch.manual_seed(0)
        y = program(x)
        if grad_mode == "grad" and y.requires_grad:
            y.sum().backward()
    plain = learned(run(shape, program, grad_mode, Empty()))
    env = run(shape, program, grad_mode, counter := OpCounter())
    assert learned(env) == plain
    profile = read_all(counter)
    assert learned(env) == plain
    assert (profile.macs, profile.activations) == (real.macs, real.activations)
    if name not in OTHERS_INSIDE:
        assert profile.total.bytes == real.profile.total.bytes
    assert profile.coverage.complete


def model_and_input(env):
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU()), mode, mode.from_tensor(torch.ones(3, 4))


def test_a_report_shows_numbers_the_sizes_taken_and_the_expression():
    model, mode, x = model_and_input(ShapeEnv())
    with mode, OpCounter(model) as c:
        model(x)
    assert isinstance(c.macs, torch.SymInt)
    batch = str(x.shape[0])
    assert str(c.macs) == f"24*{batch}"  # 4 x 6 for each row
    assert c.profile.macs == 72  # of 3 rows
    assert type(c.profile.macs) is int
    assert c.by_module()["0"].macs == 72
    assert c.profile.params == 30
    text = str(c)
    assert f"symbolic sizes: {batch} = 3; all MACs: 24*{batch}\n" in text
    assert "total: 72 MAC" in text
    assert f"(6, {batch}x4, 4x6) -> {batch}x6" in c.profile.explain("0")
    assert Profile.from_json(c.profile.to_json()) == c.profile
    assert "symbolic" not in str(Profile())


def test_a_model_whose_parameters_have_symbolic_sizes():
    mode = FakeTensorMode(shape_env=ShapeEnv())
    model = nn.Linear(4, 6)
    model.weight = nn.Parameter(mode.from_tensor(model.weight.detach(), static_shapes=False))
    model.bias = None
    x = mode.from_tensor(torch.ones(3, 4))
    with mode, OpCounter(model) as c:
        model(x)
    assert c.profile.params == 24
    assert type(c.profile.params) is int
    assert c.profile.macs == 72


def test_what_computes_with_a_size_that_only_data_tell_is_uncounted_and_the_rest_is_counted():
    env = ShapeEnv()
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.ones(5, 4))
    with mode, OpCounter() as c:
        x @ torch.ones(4, 3)
        rows = (x > 0).sum().item()
        torch.ones(rows, 4) @ torch.ones(4, 3)
    before = learned(env)
    profile = read_all(c)
    assert learned(env) == before
    assert profile.macs == 60  # 5 x 4 x 3; the other product is not known
    assert dict(profile.coverage.uncounted) == {"aten.mm.default": (2, 60)}  # 5 x 3 x 4 bytes
    assert "unknown" in str(c)
    assert "lower bound" in str(c)
    assert "12*u0" in str(c.macs)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.mT, x.mT @ grad


def asks(out, x, *_):
    return Cost(macs=7 if x.shape[0] == 5 else out.numel())


@pytest.mark.parametrize(
    ("formulas", "macs"),
    [({}, 180), ({"autograd.Product": asks}, 21), ({"aten.mm": asks}, 7 + 7 + 12)],  # 5 x 4 x 3, three times
)
def test_a_formula_may_ask_whatever_it_wants(formulas, macs):
    plain = learned(run((5, 4), lambda x: Product.apply(x, torch.ones(4, 3)), "grad", Empty()))
    counter = OpCounter(formulas=formulas)
    env = run((5, 4), lambda x: Product.apply(x, torch.ones(4, 3)), "grad", counter)
    assert read_all(counter).macs == macs
    assert learned(env) == plain


def test_functions_of_tensors_whose_sizes_only_data_tell():
    def program(x):
        rows = (x.detach() > 0).sum().item()
        torch._check(rows >= 2)
        return Product.apply(torch.ones(rows, 4) * x[0], torch.ones(4, 3))

    plain = learned(run((5, 4), program, "grad", Empty()))
    env = run((5, 4), program, "grad", counter := OpCounter())
    assert learned(env) == plain
    assert "autograd.Product" not in read_all(counter).coverage.uncounted
    assert learned(env) == plain


def test_rows_that_a_mask_selects_have_an_unknown_number():
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.ones(5, 4))
    with mode, torch.no_grad(), OpCounter() as c:
        x[x > 0].unsqueeze(1) @ torch.ones(1, 5)
    profile = read_all(c)
    assert profile.macs == 0
    assert not profile.coverage.complete


def test_a_count_of_steps_and_a_sum_work_with_symbolic_sizes():
    model, mode, x = model_and_input(ShapeEnv())
    counter = OpCounter(model, every=2)
    for _ in range(4):
        with mode, counter:
            model(x)
    assert counter.extrapolated().macs == 4 * 72
    assert (counter.profile + counter.profile).macs == 2 * counter.profile.macs
    assert render(counter.profile)


def test_a_budget_reads_the_sizes_at_hand():
    model, mode, x = model_and_input(ShapeEnv())
    with mode, OpCounter(model) as c:
        model(x)
    assert Budget.of("72 MAC").check(c.profile) == []
    assert len(Budget.of("71 MAC").check(c.profile)) == 1
    assert baseline.beyond(take(c.profile), take(c.profile), Fraction(0)) == []


def test_sizes_that_are_expressions_are_shown_as_such():
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.ones(5, 4))
    with mode, OpCounter() as c:
        torch.cat([x, torch.ones(1, 4)]) @ torch.ones(4, 3)
    assert f"(({x.shape[0]} + 1)x4, 4x3) -> ({x.shape[0]} + 1)x3" in {record.shapes for record in c.profile.records}
    assert c.profile.macs == 72  # 6 x 4 x 3


def test_fake_tensors_of_plain_sizes_are_counted_as_before():
    model, mode = nn.Linear(4, 6), FakeTensorMode(allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.ones(3, 4))
    with mode, OpCounter(model) as c:
        model(x)
    assert (c.macs, type(c.macs)) == (72, int)
    assert "symbolic" not in str(c)
