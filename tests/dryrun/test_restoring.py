"""A dry run leaves the model with the same objects as before; a real run afterwards gives the same results."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable


class Basic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.linear(x))  # type: ignore[no-any-return]


class MadeOnFirstUse(Basic):
    def __init__(self) -> None:
        super().__init__()
        self.projection: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is None:
            self.projection = nn.Linear(4, 4)
            self.register_buffer("scale", torch.ones(4))
        return self.projection(super().forward(x)) * self.scale  # type: ignore[no-any-return]


class Caches(Basic):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Any] = {"deep": [{}, ([],)]}
        self.helper = type("Helper", (), {})()
        self.helper.kept = []

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.cache["out"] = out
        self.cache["deep"][0]["out"] = out
        self.cache["deep"][1][0].append(out)
        self.helper.kept.append(out)
        self.helper.last = out
        return out


class SharesBuffers(Basic):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm1d(4)
        self.other.running_mean = self.norm.running_mean
        self.register_buffer("steps", torch.zeros(2, dtype=torch.long))
        self.linear.register_buffer("steps", self.steps)

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return self.other(super().forward(x))  # type: ignore[no-any-return]


class CopiesAPart(Basic):
    def forward(self, x: Tensor) -> Tensor:
        self.twin = copy.deepcopy(self.linear)
        return self.twin(super().forward(x))  # type: ignore[no-any-return]


class Casts(Basic):
    def forward(self, x: Tensor) -> Tensor:
        self.linear.double()
        self.linear.weight.data = self.linear.weight.data * 2
        self.linear.bias.requires_grad_(False)
        return self.norm(self.linear(x.double()).float())  # type: ignore[no-any-return]


class Hooks(Basic):
    def forward(self, x: Tensor) -> Tensor:
        self.linear.register_forward_hook(lambda _m, _a, out: out * 2)
        self.train(not self.training)
        return super().forward(x)


class Fails(Basic):
    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        raise KeyError("the program's own")


class Scripted(Basic):
    def __init__(self) -> None:
        super().__init__()
        self.part = torch.jit.script(nn.BatchNorm1d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.part(super().forward(x))  # type: ignore[no-any-return]


class Lazy(Basic):
    def __init__(self) -> None:
        super().__init__()
        self.lazy = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.lazy(super().forward(x))  # type: ignore[no-any-return]


def picture(value: Any, seen: dict[int, Any] | None = None) -> Any:  # noqa: PLR0911  (one for each kind of object)
    """Describe what can be reached from a value: identities, types, values of tensors."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return id(value)
    seen[id(value)] = value
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        return id(value), type(value)
    if isinstance(value, Tensor):
        return id(value), type(value), value.dtype, value.requires_grad, value.tolist(), id(value.grad)
    if isinstance(value, dict):
        return id(value), [(name, picture(item, seen)) for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return id(value), [picture(item, seen) for item in value]
    if isinstance(value, torch.jit.ScriptModule):
        return picture(dict(value.state_dict()), seen)[1][0][1][1:]
    if isinstance(value, nn.Module) or type(value).__name__ == "Helper":
        return id(value), type(value), picture(vars(value), seen)
    return id(value)


def train(model: nn.Module) -> None:
    optimizer = torch.optim.Adagrad(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def infer(model: nn.Module) -> None:
    with torch.no_grad():
        model(torch.ones(2, 4))


KINDS = [Basic, MadeOnFirstUse, Caches, SharesBuffers, CopiesAPart, Casts, Hooks, Fails, Scripted, Lazy]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning", "ignore:Lazy modules")
@pytest.mark.parametrize("given", [True, False], ids=["given", "not given"])
@pytest.mark.parametrize("run", [train, infer])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_as_it_was(kind: type[nn.Module], run: Callable[[nn.Module], None], given: bool) -> None:
    torch.manual_seed(0)
    model = kind()
    random, before = torch.get_rng_state(), picture(model)
    try:
        if kind is Lazy and run is train:
            return  # an optimizer of what has no shape is refused by PyTorch
        with OpCounter(model if given else None, dry_run=True):
            run(model)
    except (DryRunError, KeyError):
        pass
    assert picture(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    torch.manual_seed(0)
    untouched = kind()
    for each in (model, untouched):
        torch.manual_seed(1)
        try:
            each(torch.ones(2, 4))
        except KeyError:
            continue
    assert not any(isinstance(t, FakeTensor) for t in (*model.parameters(), *model.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_a_module_that_casts_a_part_casts_it_as_often_as_it_is_called() -> None:
    class Follows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear.to(x.dtype)(x)  # type: ignore[no-any-return]

    model = Follows()
    with OpCounter(model, dry_run=True) as c:
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float32):
            model(torch.ones(3, 5, dtype=dtype))
    assert c.macs == 4 * 3 * 5 * 7
    assert model.linear.weight.dtype is torch.float32


def test_what_a_hook_has_kept_is_as_before() -> None:
    kept: list[Tensor] = []
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].register_forward_hook(lambda _m, _a, out: kept.append(out))
    with OpCounter(model, dry_run=True):
        model(torch.ones(1, 2))
        assert len(kept) == 1
    assert kept == []


def test_gradients_of_before_stay_and_new_ones_go() -> None:
    model, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    model(x).sum().backward()
    grads = [model.weight.grad, x.grad]
    values = [g.clone() for g in grads if g is not None]
    with OpCounter(model, dry_run=True):
        model(x).sum().backward()
        model.zero_grad()
    assert model.weight.grad is grads[0]
    assert x.grad is grads[1]
    assert torch.equal(model.weight.grad, values[0])
    assert torch.equal(x.grad, values[1])


def test_optimizer_state_of_before_stays() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    before = picture(optimizer.state)
    with OpCounter(model, dry_run=True) as c:
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert c.by_phase()["optimizer"].arith == 13 * 6 + 2  # Adam, and the number of the step of each parameter
    assert picture(optimizer.state) == before


@pytest.mark.parametrize("given", [True, False], ids=["given", "not given"])
def test_parameters_that_the_program_has_in_a_list_are_the_ones_that_get_gradients(given: bool) -> None:
    counts = []
    for dry in (False, True):
        model = nn.Linear(4, 4)
        parameters = list(model.parameters())
        with OpCounter(model if given else None, dry_run=dry) as c:
            model(torch.ones(2, 4)).sum().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        counts.append([(r.key, r.calls, r.cost) for r in c.profile.records if r.family != "free"])
    assert counts[0] == counts[1]


def test_what_a_function_transform_makes_is_nothing_to_be_put_back() -> None:
    graph = torch.eye(4).to_sparse()
    macs = []
    for dry in (False, True):
        with OpCounter(dry_run=dry) as c:
            torch.func.grad(lambda x: (graph @ x.sin()).square().sum())(torch.ones(4, 3))
        macs.append(c.macs)
    assert macs == [2 * 4 * 3] * 2  # four stored elements with three columns, forward and backward


@pytest.mark.parametrize("held_before", [False, True], ids=["made inside", "made before"])
def test_an_optimizer_of_a_lazy_module_steps_on_what_forward_makes(held_before: bool) -> None:
    profiles = []
    for dry in (False, True):
        model = nn.Sequential(nn.LazyLinear(3), nn.Tanh())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        groups = list(optimizer.param_groups[0]["params"])
        with OpCounter(model, dry_run=dry) as c:
            optimizer = optimizer if held_before else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for _ in range(2):
                model(torch.randn(2, 4)).sum().backward()
                optimizer.step()
        profiles.append(c.by_phase())
        if dry:
            assert torch.nn.parameter.is_lazy(model[0].weight)
            assert model[0].weight is groups[0]
            assert not held_before or optimizer.param_groups[0]["params"][0] is groups[0]
    assert profiles[0] == profiles[1]
    assert profiles[0]["optimizer"].arith == (2 + 4) * (3 * 4 + 3)  # the first step has no momentum yet


def _hooks(tensor: Any) -> list[dict[int, Any] | None]:
    return [tensor._backward_hooks, tensor._post_accumulate_grad_hooks]


@pytest.mark.parametrize("of", ["parameter", "input", "result"])
@pytest.mark.parametrize("before", [True, False], ids=["hooked before", "not hooked before"])
def test_hooks_of_tensors_are_as_before(before: bool, of: str) -> None:
    model, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    result = x.clone()
    tensor = {"parameter": model.weight, "input": x, "result": result}[of]
    seen: list[str] = []
    handles = [tensor.register_hook(lambda _: seen.append("before"))] if before else []
    expected, held = _hooks(tensor), [each and dict(each) for each in _hooks(tensor)]
    with OpCounter(model, dry_run=True):
        if of == "parameter":
            for handle in handles:
                handle.remove()
        tensor.register_hook(lambda _: seen.append("inside"))
        if tensor.is_leaf:
            tensor.register_post_accumulate_grad_hook(lambda _: seen.append("inside"))
    assert all(a is b for a, b in zip(_hooks(tensor), expected, strict=True))
    assert [each and dict(each) for each in _hooks(tensor)] == held
    model(result).sum().backward()
    assert seen == ["before"] * before


@pytest.mark.parametrize("original_too", [True, False])
@pytest.mark.parametrize("copies_live", [True, False])
def test_what_a_shallow_copy_of_a_module_changes_is_put_back_in_the_module(
    copies_live: bool, original_too: bool
) -> None:
    model, x = nn.BatchNorm1d(2), torch.ones(3, 2)
    before = picture(model)
    copies = []
    with OpCounter(dry_run=True):
        copied = copy.copy(model)
        copied(x)
        copied.weight = nn.Parameter(torch.ones(2))
        copied.register_forward_hook(lambda *_: None)
        copies += [copied] * copies_live
        del copied
        if original_too:
            model(x)
            model.bias = None
    assert picture(model) == before
    assert type(model.num_batches_tracked) is Tensor
    assert len(model._forward_hooks) == 0


def test_containers_that_have_another_idea_of_their_contents_are_put_back() -> None:
    class Sizes(tuple):
        __slots__ = ()

        def __len__(self) -> int:
            raise NotImplementedError

    class Names(dict):  # type: ignore[type-arg]
        def keys(self) -> Any:
            raise NotImplementedError

    class Holds(Basic):
        def __init__(self) -> None:
            super().__init__()
            self.names = Names(sizes=Sizes([[1]]))

        def forward(self, x: Tensor) -> Tensor:
            dict.__getitem__(self.names, "sizes")[0].append(2)
            self.names["more"] = x
            return super().forward(x)

    model = Holds()
    with OpCounter(model, dry_run=True) as c:
        model(torch.randn(3, 4))
    assert c.macs == 3 * 4 * 4
    assert list(model.names) == ["sizes"]
    assert model.names["sizes"][0] == [1]


def _linear() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


class _Recurrent(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [_linear, lambda: _Recurrent(4, 4), lambda: nn.Embedding(9, 4)])
@pytest.mark.parametrize("given", [True, False], ids=["given", "not given"])
def test_parameters_that_are_cast_inside_stay_those_that_the_program_knows(
    make: Callable[[], nn.Module], given: bool
) -> None:
    profiles = []
    for dry in (False, True):
        model = make()
        x = torch.ones(2, dtype=torch.int64) if isinstance(model, nn.Embedding) else torch.ones(2, 4).double()
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        before = picture(model)
        with OpCounter(model if given else None, dry_run=dry) as c:
            model.double()
            assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
            torch.autograd.grad(model(x).sum(), parameters)
            model(x).sum().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            model.half().float()
            assert parameters[0].dtype is torch.float32
        profiles.append({r.key: (r.calls, r.cost, r.bytes) for r in c.profile.records if r.family != "free"})
        assert not dry or picture(model) == before
    assert profiles[0] == profiles[1]


def test_a_small_parameter_that_is_cast_inside_keeps_its_value() -> None:
    model = nn.Linear(2, 2)
    expected = model.bias.tolist()
    with OpCounter(model, dry_run=True):
        assert model.double().bias.tolist() == expected
    with pytest.raises(DryRunError, match="needs the values"), OpCounter(model, dry_run=True), torch.no_grad():
        [model.bias.mul_(torch.rand(2)), model.double().bias.tolist()]
    assert model.bias.tolist() == expected
