"""Lazy modules: in a dry run they make their parameters in place, and afterwards they are lazy again."""

from __future__ import annotations

import copy
import pickle
from operator import methodcaller
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules")

ROWS, IMAGE = torch.ones(2, 7), torch.ones(2, 3, 8, 8)


def rows() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3, bias=False))


def image() -> nn.Module:
    norm = nn.LazyInstanceNorm2d(affine=True, track_running_stats=True)
    first = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    return nn.Sequential(first, nn.ReLU(), nn.LazyConvTranspose2d(3, 3), norm, nn.Flatten(), nn.LazyLinear(2))


def tied() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(7, bias=False), nn.LazyLinear(7, bias=False))
    model[1].weight = model[0].weight
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    x = IMAGE if isinstance(model[0], nn.Sequential) else ROWS
    for _ in range(2):
        model(x.to(next(model.parameters()).dtype)).sum().backward()
        if optimizer is not None:
            optimizer.step()


def with_parameters_of_before(model: nn.Module) -> None:
    parameters = list(model.parameters())
    torch.autograd.grad(model(ROWS).sum(), parameters)
    train(model, torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
    nn.utils.clip_grad_norm_(parameters, 1.0)


def with_parameters_made_inside(model: nn.Module) -> None:
    model(ROWS)
    train(model, torch.optim.AdamW(model.parameters()))


def frozen(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad = False
    model[0](ROWS.clone().requires_grad_()).sum().backward()


def without_gradients_first(model: nn.Module) -> None:
    with torch.no_grad():
        model.eval()(IMAGE)
    train(model.train())


def in_inference_mode_first(model: nn.Module) -> None:
    with torch.inference_mode():
        model(ROWS)
    model[0](ROWS).sum().backward()


def cast(model: nn.Module) -> None:
    parameters = list(model.parameters())
    train(model.double())
    assert all(parameter.dtype is torch.float64 for parameter in parameters)


def cast_image(model: nn.Module) -> None:
    train(model.to(torch.bfloat16))


def loaded(model: nn.Module) -> None:
    other = rows()
    model.load_state_dict(other.state_dict())
    other(ROWS)
    model.load_state_dict(other.state_dict())
    train(model)


def copied(model: nn.Module) -> None:
    train(copy.deepcopy(model))
    train(pickle.loads(pickle.dumps(model)))  # noqa: S301  (our own)
    train(model)
    train(copy.deepcopy(model))


def made_inside(_model: nn.Module) -> None:
    for make in (rows, image, tied):
        train(make())


def recomputed(model: nn.Module) -> None:
    for reentrant in (False, True):
        checkpoint(model, ROWS.clone().requires_grad_(), use_reentrant=reentrant).sum().backward()


def on_a_thread(model: nn.Module) -> None:
    thread = Thread(target=train, args=(model,))
    thread.start()
    thread.join()


def of_known_values(model: nn.Module) -> None:
    norm = model[0][1]
    norm.initialize_parameters(torch.ones(1, 4, 2, 2))
    if norm.weight.sum().item() == 4 and not norm.running_mean.any():
        train(model)


def of_a_function_transform(model: nn.Module) -> None:
    model(ROWS)
    parameters = dict(model.named_parameters())
    torch.func.grad(lambda given: torch.func.functional_call(model, given, (ROWS,)).sum())(parameters)


def by_hand(_model: nn.Module) -> None:
    weight, shift = nn.UninitializedParameter(), nn.UninitializedBuffer()
    weight.materialize((7, 2))
    shift.materialize((2,), dtype=torch.float64)
    with torch.no_grad():
        weight.fill_(1)
        shift.zero_()
    (ROWS @ weight + shift).sum().backward()


PROGRAMS: list[tuple[Callable[[], nn.Module], Callable[[nn.Module], None]]] = [
    (rows, train), (image, train), (tied, train), (rows, with_parameters_of_before),
    (rows, with_parameters_made_inside), (rows, frozen), (image, without_gradients_first),
    (rows, in_inference_mode_first), (rows, cast), (image, cast_image), (rows, loaded), (rows, copied),
    (rows, made_inside), (rows, recomputed), (rows, on_a_thread), (image, of_known_values),
    (rows, of_a_function_transform), (rows, by_hand),
]  # fmt: skip


def picture(model: nn.Module) -> list[Any]:
    """Return what a lazy module is: its class, attributes, hooks, and the tensors that it has."""
    found: list[Any] = []
    for module in model.modules():
        hooks = {name: list(value.items()) for name, value in vars(module).items() if "hooks" in name and value}
        found.append((id(module), type(module), list(vars(module)), hooks))
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                shape = None if is_lazy(tensor) else tensor.shape
                found.append((name, id(tensor), type(tensor), tensor.dtype, tensor.requires_grad, tensor.grad, shape))
    return found


def state(model: nn.Module, run: Callable[[nn.Module], None]) -> list[Any]:
    """Run a program for real, and return what is computed."""
    torch.manual_seed(1)
    run(model)
    tensors = [*model.parameters(), *model.buffers()]
    values = [None if is_lazy(tensor) else (tensor.tolist(), tensor.dtype) for tensor in tensors]
    return [*values, [None if tensor.grad is None else tensor.grad.tolist() for tensor in tensors]]


@pytest.mark.parametrize("given", [True, False], ids=["given", "not given"])
@pytest.mark.parametrize(("make", "run"), PROGRAMS, ids=[f"{make.__name__}-{run.__name__}" for make, run in PROGRAMS])
def test_a_dry_run_counts_what_a_real_run_counts_and_leaves_the_model_lazy(
    make: Callable[[], nn.Module], run: Callable[[nn.Module], None], given: bool
) -> None:
    profiles = []
    model = make()
    before = picture(model)
    for dry in (True, False):
        counted = model if dry else make()
        with OpCounter(counted if given else None, dry_run=dry) as c:
            run(counted)
        profiles.append({r.key: (r.calls, r.cost, r.bytes) for r in c.profile.records})
    assert profiles[0] == profiles[1]
    assert profiles[0]
    assert picture(model) == before
    assert state(model, run) == state(make(), run)


@pytest.mark.parametrize("run", [train, with_parameters_of_before, cast, copied, recomputed])
def test_a_lazy_model_on_the_meta_device_counts_as_on_the_cpu(run: Callable[[nn.Module], None]) -> None:
    profiles = []
    with torch.device("meta"):
        model = rows()
    before = picture(model)
    for counted in (model, rows()):
        with OpCounter(counted, dry_run=counted is model) as c:
            if counted is model and run is with_parameters_of_before:
                counted(ROWS)
            run(counted)
        profiles.append({r.key: (r.calls, r.cost, r.bytes) for r in c.profile.records if r.family != "free"})
    assert run is with_parameters_of_before or profiles[0] == profiles[1]
    assert picture(model) == before


def test_a_graph_that_outlives_a_dry_run_does_not_hold_a_shape() -> None:
    model = nn.LazyLinear(3)
    with OpCounter(model, dry_run=True):
        kept = model(ROWS).sum()
    model(torch.ones(2, 4)).sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.shape == (3, 4)
    del kept


@pytest.mark.parametrize("ask", [methodcaller("tolist"), pickle.dumps])
def test_the_values_of_what_is_made_inside_are_not_known(ask: Callable[[Tensor], object]) -> None:
    model = nn.LazyLinear(3)
    with pytest.raises(DryRunError, match="needs the values"), OpCounter(model, dry_run=True):
        ask(model(ROWS) * 0 + model.weight.sum())
    with pytest.raises(DryRunError, match="needs the values"), OpCounter(model, dry_run=True):
        [model(ROWS), ask(model.weight)]
    assert is_lazy(model.weight)


def test_an_exception_leaves_the_model_lazy() -> None:
    model = rows()
    before = picture(model)
    with pytest.raises(RuntimeError, match="same reduction dim"), OpCounter(model, dry_run=True):
        model[0](model(ROWS) @ torch.ones(3, 5))
    assert picture(model) == before


@pytest.mark.parametrize("make", [nn.LazyBatchNorm1d, lambda: nn.LazyConv1d(2, 1), lambda: nn.LazyLinear(2)])
def test_a_lazy_module_that_a_reentrant_checkpoint_makes_is_no_native_code(make: Callable[[], nn.Module]) -> None:
    model = make()
    with OpCounter(model, dry_run=True) as c:
        checkpoint(model, torch.randn(3, 4, 5, requires_grad=True), use_reentrant=True)
    assert list(c.coverage.uncounted) == []
