"""A dry run counts what a real run counts, computes nothing, and leaves the model as it was."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from opcount import OpCounter
from opcount.dryrun.memo import Memo
from opcount.errors import DryRunError
from tests.features import needs

Size = tuple[int, ...]


class Block(nn.Module):
    """A bit of everything: buffers, in-place work, views, a shared weight, an attribute set in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.lstm = nn.LSTM(8, 4, batch_first=True)
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv(x)))
        x, _ = self.lstm(x.flatten(2).transpose(1, 2))
        self.last = self.b(self.a(x))
        self.seen = self.last.mean()
        return self.last


def state(model: nn.Module) -> dict[str, object]:
    tensors = {name: (id(t), t.clone()) for name, t in (*model.named_parameters(), *model.named_buffers())}
    return {"tensors": tensors, "attributes": [sorted(vars(m)) for m in model.modules()], "grads": grads(model)}


def grads(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, **options: bool) -> OpCounter:
    with OpCounter(model, **options) as c:
        model(torch.randn(2, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return c


def rows(c: OpCounter) -> list[tuple[object, ...]]:
    return sorted((*r.key, r.calls, r.cost) for r in c.profile.records if r.family != "free")


def test_a_dry_training_step_counts_what_a_real_one_does() -> None:
    dry_model, real_model = Block(), Block()
    dry = train(dry_model, torch.optim.Adam(dry_model.parameters(), foreach=False), dry_run=True)
    real = train(real_model, torch.optim.Adam(real_model.parameters(), foreach=False))
    assert rows(dry) == rows(real)
    convolution, others = 2 * 36 * 8 * 27, 2 * 36 * (4 * 4 * (8 + 4) + 2 * 4 * 4)
    assert dry.by_phase()["forward"].macs == convolution + others
    assert dry.by_phase()["backward"].macs == convolution + 2 * others  # nobody asks for the gradient of the input
    assert dry.by_phase()["optimizer"].arith == 13 * 488 + 11  # Adam, and the number of the step of each parameter


def test_an_optimizer_made_inside_a_dry_run_steps() -> None:
    model = nn.Linear(3, 2)
    with OpCounter(model, dry_run=True) as c:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.randn(1, 3)).sum().backward()
        optimizer.step()
    assert c.by_phase()["optimizer"].arith == 2 * (3 * 2 + 2)  # scaled and added, for each element


def test_the_model_is_as_it_was() -> None:
    model = Block()
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    last, before = model.last, state(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    before = state(model)
    momentum = optimizer.state[model.a.weight]["momentum_buffer"].clone()
    train(model, optimizer, dry_run=True)
    after = state(model)
    assert model.last is last
    assert after["attributes"] == before["attributes"]
    for (name, (identity, value)), (_, (identity_after, value_after)) in zip(
        before["tensors"].items(), after["tensors"].items(), strict=True
    ):
        assert identity == identity_after, name
        assert torch.equal(value, value_after), name
    assert all(a is b for a, b in zip(before["grads"], after["grads"], strict=True))
    assert list(optimizer.state) == list(dict.fromkeys(model.parameters()))
    assert torch.equal(optimizer.state[model.a.weight]["momentum_buffer"], momentum)
    assert not any(isinstance(p, FakeTensor) for group in optimizer.param_groups for p in group["params"])


def test_the_model_is_as_it_was_after_an_exception() -> None:
    model = Block()
    weight = model.conv.weight
    with pytest.raises(RuntimeError, match=r"shape|size|channels"), OpCounter(model, dry_run=True):
        model(torch.randn(2, 5, 6, 6))
    assert model.conv.weight is weight
    assert not isinstance(model(torch.randn(1, 3, 6, 6)), FakeTensor)


def test_nothing_is_computed_and_results_are_fake() -> None:
    with OpCounter(nn.Linear(2, 2), dry_run=True) as c:
        out = torch.randn(1 << 20, 1 << 20) @ torch.randn(1 << 20, 1 << 20)  # 4 TiB each, if they were real
    assert isinstance(out, FakeTensor)
    assert c.macs == 1 << 60


def test_a_model_on_the_meta_device_is_counted_with_inputs_on_the_cpu() -> None:
    with torch.device("meta"):
        model = Block()
    with OpCounter(model, dry_run=True) as dry:
        model(torch.randn(2, 3, 6, 6)).sum().backward()
    with OpCounter(real := Block()) as c:
        real(torch.randn(2, 3, 6, 6)).sum().backward()
    assert rows(dry) == rows(c)
    assert all(p.is_meta and p.grad is None for p in model.parameters())


def test_inputs_on_the_meta_device_will_do() -> None:
    with torch.device("meta"):
        model, x = nn.Linear(4, 8), torch.randn(2, 4)
    with OpCounter(model, dry_run=True) as c:
        model(x)
    assert c.macs == 2 * 4 * 8


class Picks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


@pytest.mark.parametrize(("inner", "operator"), [(Picks(), "nonzero|index"), (Asks(), "_local_scalar_dense")])
def test_an_operator_that_needs_values_is_named_with_its_module(inner: nn.Module, operator: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), inner)
    message = rf"dry run: aten\.({operator}).* in 1 needs the values"
    with pytest.raises(DryRunError, match=message), OpCounter(model, dry_run=True):
        model(torch.randn(2, 4))


def test_the_profile_says_that_the_run_was_dry() -> None:
    with OpCounter(nn.Linear(2, 2), dry_run=True) as c:
        pass
    assert c.profile.provenance["run"] == "dry"


@pytest.mark.parametrize("dry_run", [False, True])
def test_nested_counters_agree(dry_run: bool) -> None:
    model = Block()
    with OpCounter(model) as alone:
        for _ in range(3):  # answers are remembered from the second on
            model(torch.randn(2, 3, 6, 6))
    with OpCounter(model, dry_run=True) as outer, OpCounter(model, dry_run=dry_run) as inner:
        for _ in range(3):
            model(torch.randn(2, 3, 6, 6))
    assert rows(outer) == rows(inner) == rows(alone)


def test_a_dry_run_inside_of_one_leaves_the_outer_one_going() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with OpCounter(layer, dry_run=True) as outer:
        with OpCounter(other, dry_run=True):
            other(layer(torch.ones(1, 2))).sum().backward()
        layer(torch.ones(1, 2)).sum().backward()
    # both layers forward, the first twice; in backward the first owes its weight alone, and the second its input, too
    assert outer.macs == 3 * 4 + 4 + 4 + 2 * 4
    assert layer.weight.grad is None
    assert other.weight.grad is None
    assert type(other.weight) is nn.Parameter


@pytest.mark.parametrize("left", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_counters_that_are_left_in_any_order_compute_nothing_until_the_last_one_is(left: tuple[int, ...]) -> None:
    models = [nn.Linear(2, 2) for _ in left]
    counters = [OpCounter(model, dry_run=True) for model in models]
    weights = [model.weight.detach().clone() for model in models]
    for counter in counters:
        counter.__enter__()
    for which in left:
        out = models[which](torch.ones(1, 2))
        assert type(out) is not torch.Tensor
        out.sum().backward()
        torch.optim.SGD(models[which].parameters(), lr=1.0).step()
        counters[which].__exit__(None, None, None)
    assert [counter.by_phase()["forward"].macs for counter in counters] == [4 * (left.index(i) + 1) for i in range(3)]
    for model, weight in zip(models, weights, strict=True):
        assert type(model(torch.ones(1, 2))) is torch.Tensor
        assert torch.equal(model.weight, weight)
        assert model.weight.grad is None


def test_what_a_dry_run_refused_is_raised_by_the_last_counter_that_is_left() -> None:
    first, second = OpCounter(dry_run=True), OpCounter(dry_run=True)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with contextlib.suppress(RuntimeError):
        int(torch.randn(3).sum())
    with pytest.raises(DryRunError, match="_local_scalar_dense"):
        second.__exit__(None, None, None)


def test_an_encoder_layer_counts_what_its_fast_path_stands_for() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        with OpCounter(layer) as real:
            layer(x)
        with OpCounter(layer, dry_run=True) as dry:
            layer(x)
    assert dry.macs == real.macs
    assert dry.flops == real.flops
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("a", "b", "ends"),
    [
        ((6, 16), (2, 16, 8), [2, 6]),
        ((2, 6, 16), (16, 8), [3, 8]),
        ((2, 6, 16), (2, 16, 8), None),
        ((8, 16), (16, 8), [7, 16]),
    ],
    ids=["rows", "columns", "batched", "both"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@needs("grouped products on a CPU")
def test_grouped_products_have_the_layout_of_the_kernel(
    a: Size, b: Size, ends: list[int] | None, dtype: torch.dtype
) -> None:
    left, right = torch.randn(a).to(dtype), torch.randn(b).to(dtype)
    offsets = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    with OpCounter() as real:
        expected = torch._grouped_mm(left, right, offsets)
    with OpCounter(dry_run=True) as dry:
        out = torch._grouped_mm(left, right, offsets)
    assert (out.shape, out.stride(), out.dtype) == (expected.shape, expected.stride(), expected.dtype)
    if len(a) == 2 and len(b) == 3:  # the columns and the depth that offsets cut have no say in the total elsewhere
        assert dry.macs == real.macs == 6 * 16 * 8


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
def test_a_recurrent_network_under_inference_mode_counts_what_a_real_run_does(inside: bool) -> None:
    totals = []
    for dry in (False, True):
        model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3))
        with torch.inference_mode(not inside), OpCounter(model, dry_run=dry) as c, torch.inference_mode():
            model(torch.randn(5, 4))
        totals.append((c.macs, c.arith))
    assert totals[0] == totals[1]
    assert totals[0][0] == 5 * 4 * 4 + 5 * 4 * 3 * (4 + 3)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_scripted_submodule_with_parameters_is_put_back() -> None:
    model = nn.Sequential(torch.jit.script(nn.LayerNorm(4)))
    with OpCounter(model, dry_run=True) as c:
        model(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert c.arith == 8 * (5 + 1 + 13)  # the norm, the sum, the gradient of the norm
    assert all(type(p) is nn.Parameter and p.grad is None for p in model.parameters())


def test_a_dry_run_is_asked_once_for_each_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    recall = Memo.recall

    def note(memo: Memo, func: Any, args: Any, kwargs: Any) -> Any:
        asked.append(str(func))
        return recall(memo, func, args, kwargs)

    def run() -> None:
        x = torch.empty(4, 4)
        torch.add(x, torch.empty_like(x))

    monkeypatch.setattr(Memo, "recall", note)
    with torch.no_grad(), OpCounter(dry_run=True):
        run()
        asked.clear()
        run()
    assert asked == ["aten.empty.memory_format", "aten.empty_like.default", "aten.add.Tensor"]  # and for no device
