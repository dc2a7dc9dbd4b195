"""Changes to real tensors and modules that no dispatch mode sees are undone or refused."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.features import needs

if TYPE_CHECKING:
    from collections.abc import Callable


def trained() -> nn.Sequential:
    """Return a model that has gradients, of which no operator inside a block has seen anything."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model(torch.randn(3, 4)).square().sum().backward()
    return model


def image(model: nn.Module) -> list[Any]:
    """Return all that a model is: classes, attributes, tables in their order, and what each tensor is and holds."""
    found: list[Any] = []
    for module in model.modules():
        tables = {k: list(v) for k, v in vars(module).items() if isinstance(v, dict)}
        found += [type(module), list(vars(module)), tables, module.training]
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            assert tensor is not None
            grad = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist(), tensor.grad.requires_grad)
            held = (
                tensor.tolist(),
                tensor.dtype,
                tensor.stride(),
                tensor.device,
                tensor.requires_grad,
                hooks_of(tensor),
            )
            found += [tensor.is_shared()]
            found += [id(tensor), type(tensor), held, grad, dict(vars(tensor))]
    return found


def hooks_of(tensor: Tensor) -> list[list[Any]]:
    tables = (tensor._backward_hooks, tensor._post_accumulate_grad_hooks)
    return [list(table.items()) if table else [] for table in tables]


def each(change: Callable[[Tensor], object]) -> Callable[[nn.Module], object]:
    return lambda model: [change(parameter) for parameter in model.parameters()]


def assign(name: str, make: Callable[[Tensor], object]) -> Callable[[nn.Module], object]:
    return each(lambda parameter: setattr(parameter, name, make(parameter)))


CHANGES: dict[str, Callable[[Any], object]] = {
    "half": lambda model: model.half(),
    "double": lambda model: model.double(),
    "to a dtype": lambda model: model.to(torch.bfloat16),
    "to the meta device": lambda model: model.to("meta"),
    "to_empty": lambda model: model.to_empty(device="cpu"),
    "a part cast": lambda model: model[0].double(),
    "load_state_dict": lambda model: model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}),
    "assigning": lambda model: model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}, assign=True),
    "data": assign("data", lambda p: p.data * 2),
    "data of another dtype": assign("data", lambda p: p.data.half()),
    "data of a buffer": lambda model: setattr(model[1].running_mean, "data", torch.zeros(4)),
    "data of a gradient": each(lambda p: setattr(p.grad, "data", torch.zeros_like(p))),
    "requires_grad_ of the model": lambda model: model.requires_grad_(requires_grad=False),
    "requires_grad_": each(lambda p: p.requires_grad_(requires_grad=False)),
    "requires_grad": assign("requires_grad", lambda _: False),
    "zero_grad": lambda model: model.zero_grad(),
    "zero_grad of an optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=1).zero_grad(),
    "grad set": assign("grad", torch.zeros_like),
    "grad removed": each(lambda p: delattr(p, "grad")),
    "a parameter set": lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(4, 4))),
    "a parameter removed": lambda model: delattr(model[0], "weight"),
    "a buffer set": lambda model: setattr(model[1], "running_mean", torch.zeros(4)),
    "a buffer registered": lambda model: model.register_buffer("scale", torch.ones(3)),
    "a module set": lambda model: setattr(model, "head", nn.Linear(4, 2)),
    "a module exchanged": lambda model: model.__setitem__(0, nn.Linear(4, 4)),
    "eval": lambda model: model.eval(),
    "a parameter removed and set": lambda model: (delattr(model[0], "weight"), setattr(model[0], "weight", None)),
    "pruned": lambda model: prune.l1_unstructured(model[0], "weight", 0.5),
    "weight_norm": lambda model: parametrizations.weight_norm(model[0]),
    "hooks of tensors": each(lambda parameter: parameter.register_hook(lambda grad: grad * 2)),
    "later hooks of tensors": each(lambda parameter: parameter.register_post_accumulate_grad_hook(print)),
    "detached": each(lambda parameter: parameter.detach_()),
    "state": lambda model: model[0].__setstate__(dict(vars(nn.Linear(4, 4)))),
    "weight_norm of old": lambda model: nn.utils.weight_norm(model[0]),
    "spectral_norm of old": lambda model: nn.utils.spectral_norm(model[0]),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")  # its class differs
@pytest.mark.parametrize("given", [False, True], ids=["outside", "given"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_module_that_is_changed_before_its_first_call_is_as_it_was(name: str, given: bool) -> None:
    model = trained()
    before = image(model)
    with OpCounter(model if given else None, dry_run=True):
        CHANGES[name](model)
    assert image(model) == before


def test_a_cast_module_counts_as_in_a_real_run_and_is_put_back_after_it_has_run() -> None:
    def run(model: nn.Module, **options: bool) -> OpCounter:
        with OpCounter(**options) as c:
            model.double()
            model(torch.ones(3, 4, dtype=torch.float64)).sum().backward()
        return c

    model = trained()
    before, real = image(model), run(trained())
    dry = run(model, dry_run=True)
    assert dry.by_dtype() == real.by_dtype()
    assert image(model) == before


@needs("products of float16 on a CPU")
@pytest.mark.parametrize("dry", [False, True])
def test_a_loose_parameter_with_other_data_counts_by_these(dry: bool) -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    with OpCounter(dry_run=dry) as c:
        _ = torch.ones(3, 4) @ weight  # 3 * 4 * 4
        weight.data = torch.ones(4, 5, dtype=torch.float16)
        _ = torch.ones(3, 4, dtype=torch.float16) @ weight  # 3 * 4 * 5
    assert {dtype: total.macs for dtype, total in c.by_dtype().items()} == {"float32": 48, "float16": 60}
    assert weight.shape == ((4, 4) if dry else (4, 5))


@pytest.mark.parametrize("use", [nn.functional.linear, lambda x, w: x @ w.t(), lambda x, w: x * w[0].view(-1)])
def test_a_loose_parameter_of_which_operators_see_views_alone_gets_no_gradient(
    use: Callable[[Tensor, Tensor], Tensor],
) -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    with OpCounter(dry_run=True):
        use(torch.randn(2, 4), weight).sum().backward()
        assert weight.grad.shape == (4, 4)
    assert weight.grad is None


REFUSED: dict[str, Callable[[Any], object]] = {
    "memory resized": lambda model: model[0].weight.untyped_storage().resize_(0),
    "memory written": lambda model: model[0].weight.untyped_storage().__setitem__(0, 1),
    "swap_tensors": lambda model: torch.utils.swap_tensors(model[0].weight, nn.Parameter(torch.zeros(4, 4))),
    "set_": lambda model: model[0].weight.data.set_(torch.zeros(2, 2)),
    "t_": lambda model: model[0].weight.data.t_(),
    "shared": lambda model: model.share_memory(),
    "a tensor shared": lambda model: model[1].running_mean.share_memory_(),
    "apply_": lambda model: model[1].running_mean.apply_(lambda _: 7.0),
    "map_": lambda model: model[1].running_mean.map_(model[1].running_var, lambda a, b: 7.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_undone_is_refused(name: str) -> None:
    model = trained()
    before = image(model)
    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        REFUSED[name](model)
    assert image(model) == before


@pytest.mark.parametrize("patched", [False, True])
def test_a_module_that_is_made_inside_keeps_all_that_it_is_made_of(
    patched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patched:  # as dynamo does, once it has compiled
        before = nn.Module.__init__

        def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            before(self, *args, **kwargs)

        monkeypatch.setattr(nn.Module, "__init__", init)
    own = nn.Module.__init__
    model = nn.Linear(4, 4)
    with OpCounter(dry_run=True):
        wrapped = nn.Sequential(model, nn.ReLU(), nn.Flatten())
    assert nn.Module.__init__ is own
    assert len(wrapped) == 3
    assert copy.deepcopy(wrapped)(torch.ones(2, 4)).shape == (2, 4)


def test_a_result_of_before_keeps_its_hooks_and_its_graph() -> None:
    x = torch.ones(3, requires_grad=True)
    first, second = x * 2, x * 3
    first.register_hook(lambda grad: grad * 10)
    with OpCounter(dry_run=True):
        for result in (first, second):
            result.register_hook(lambda grad: grad * 100)
    with pytest.raises(DryRunError, match="out of its graph"), OpCounter(dry_run=True):
        first.detach_()
    (first + second).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2 * 10 + 3] * 3


def exchanged_by_torch(model: nn.Module, x: Tensor) -> None:
    torch.func.functional_call(model, {name: value * 2 for name, value in model.named_parameters()}, (x,))


def exchanged_by_hand(model: Any, x: Tensor) -> None:
    weight = model[0]._parameters.pop("weight")
    model[0].__dict__["weight"] = weight * 2
    model(x)
    del model[0].__dict__["weight"]
    model[0]._parameters["weight"] = weight


@pytest.mark.parametrize("given", [False, True], ids=["outside", "given"])
@pytest.mark.parametrize("exchange", [exchanged_by_torch, exchanged_by_hand])
def test_what_a_program_exchanges_and_puts_back_is_its_own(exchange: Callable[..., None], given: bool) -> None:
    model = trained()
    before = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    values = copy.deepcopy(model.state_dict())
    with OpCounter(model if given else None, dry_run=True) as c:
        exchange(model, torch.ones(3, 4))
    assert c.macs == 3 * 4 * 4
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == before
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_what_a_program_puts_into_a_module_by_hand_and_leaves_there_is_refused() -> None:
    def run(model: Any) -> None:
        with OpCounter(dry_run=True):
            model[0]._parameters["weight"] = nn.Parameter(torch.ones(4, 4))
            model(torch.ones(3, 4))

    with pytest.raises(DryRunError, match=r"Linear\.weight, which the program has put there by hand"):
        run(trained())


def test_a_copy_that_is_made_inside_may_be_kept() -> None:
    model = trained()
    before = image(model)
    with OpCounter(dry_run=True):
        copies = copy.deepcopy(model), copy.copy(model)
        for each_ in copies:
            each_[0].bias = nn.Parameter(torch.randn(4))
            each_(torch.ones(3, 4))
    assert image(model) == before


def test_what_is_shared_already_may_be_shared_again() -> None:
    shared = torch.ones(3).share_memory_()
    with OpCounter(dry_run=True):
        assert shared.share_memory_() is shared


@needs("a NumPy array from DLPack that can be written to")
def test_another_library_gets_a_copy() -> None:
    image_ = torch.ones(3)
    with OpCounter(dry_run=True):
        np.from_dlpack(image_)[0] = 7
        np.from_dlpack(torch.from_dlpack(torch.utils.dlpack.to_dlpack(image_)))[1] = 7
    assert image_.tolist() == [1, 1, 1]


def test_what_is_written_to_an_array_stays_in_the_array() -> None:
    image_ = torch.ones(3)
    with OpCounter(dry_run=True):
        array = image_.numpy()
        array *= 2
        other = np.asarray(image_)
        other += 5
    assert array.tolist() == [2, 2, 2]
    assert image_.tolist() == [1, 1, 1]


READS: dict[str, Callable[[Tensor], object]] = {
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.detach().numpy(),
    "asarray": lambda t: np.asarray(t.detach()),
    "data_ptr": lambda t: t.data_ptr(),
    "dlpack": lambda t: np.from_dlpack(t.detach()),
    "to_dlpack": lambda t: torch.utils.dlpack.to_dlpack(t.detach()),
    "pickle": pickle.dumps,
    "float": lambda t: float(t[0]),
    "format": lambda t: f"{t[0]:.3f}",
    "bool": lambda t: bool(t[0] > 0),
    "item": lambda t: t[0].item(),
    "copy": lambda t: copy.deepcopy(t).tolist(),
    "slice": lambda t: t[:2].tolist(),
    "transposed": lambda t: t.detach().view(1, -1).t().tolist(),
}


def running(weight: Tensor) -> Tensor:
    norm = nn.BatchNorm1d(4)
    norm.running_mean = weight
    norm(torch.randn(3, 4))
    return weight


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("write", [lambda t: t.add_(torch.randn(4)), running], ids=["add_", "batch_norm"])
def test_a_real_tensor_that_something_unknown_was_written_to_tells_no_value(
    name: str, write: Callable[[Tensor], object]
) -> None:
    def program() -> None:
        write(tensor)
        READS[name](tensor)

    tensor = torch.ones(4)
    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        program()
    assert tensor.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", READS)
def test_a_parameter_that_an_optimizer_has_stepped_tells_no_value(name: str) -> None:
    def program() -> None:
        (parameter * torch.randn(4)).sum().backward()
        torch.optim.SGD([parameter], lr=1).step()
        READS[name](parameter)

    parameter = nn.Parameter(torch.ones(4))
    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        program()
    assert parameter.tolist() == [1, 1, 1, 1]


def test_a_real_tensor_tells_the_value_that_was_written_to_it() -> None:
    counter, weight = torch.ones(2, dtype=torch.int64), torch.ones(2)
    with OpCounter(dry_run=True):
        counter.add_(2)
        weight.fill_(4)
        assert counter.tolist() == counter.numpy().tolist() == [3, 3]
        assert weight.tolist() == [4, 4]
        assert repr(weight) == "tensor([4., 4.])"
        assert f"{weight[0]:.1f}" == "4.0"
    assert counter.tolist() == weight.tolist() == [1, 1]


def test_a_tensor_whose_value_is_not_known_is_shown_without() -> None:
    weight = torch.ones(2)
    with OpCounter(dry_run=True):
        weight.mul_(torch.randn(2))
        assert repr(weight) == str(weight) == "Tensor(..., size=(2,))"
    assert repr(weight) == "tensor([1., 1.])"


def test_nothing_is_patched_afterwards() -> None:
    before = [dict(vars(owner)) for owner in (Tensor, nn.Module, torch.UntypedStorage)]
    with pytest.raises(ZeroDivisionError), OpCounter(dry_run=True):
        raise ZeroDivisionError
    assert [dict(vars(owner)) for owner in (Tensor, nn.Module, torch.UntypedStorage)] == before


def test_a_module_that_is_made_and_dropped_inside_dies_then() -> None:
    with OpCounter(dry_run=True):
        made = weakref.ref(nn.Linear(2, 2))
        assert made() is None
