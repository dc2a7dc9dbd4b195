"""Remains of a dry run that is over: they have shapes, and compute nothing, whatever asks them to."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.arange(12.0).reshape(3, 4)


def kept() -> Any:
    """Return what a program may keep of a dry run: copies, models and results."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    with OpCounter(model, dry_run=True) as c:
        model(X).sum().backward()
        return SimpleNamespace(
            model=model,
            copied=copy.deepcopy(model),
            cast=copy.deepcopy(model).double(),
            made=nn.Linear(4, 4),
            counter=copy.deepcopy(c),
            grad=model[0].weight.grad,
            loss=model(torch.randn(3, 4)).sum(),
            out=torch.randn(3, 4),
            mask=torch.randn(3, 4) > 0,
            leaf=torch.randn(4, requires_grad=True),
            known=torch.tensor([1.0, 2.0]),
        )


def step(optimizer: Any, k: Any) -> None:
    layer = nn.Linear(4, 4)
    layer.weight.grad = k.grad
    optimizer(layer.parameters(), 0.1).step()


def in_a_thread(run: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def catch() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  (raised below)
            raised.append(error)

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def under_a_counter(run: Callable[[], object]) -> None:
    with OpCounter(nn.Linear(4, 4), strict=True):
        run()


def under_fakes(run: Callable[[], object]) -> None:
    with FakeTensorMode():
        run()


COMPUTING: dict[str, Callable[[Any], Any]] = {
    "a copy of a model": lambda k: k.copied(X),
    "a copy in another dtype": lambda k: k.cast(X.double()),
    "a model made inside": lambda k: k.made(X),
    "in inference mode": lambda k: torch.inference_mode()(k.made)(X),
    "a copy of a copy": lambda k: copy.deepcopy(k.copied),
    "a copied counter's model": lambda k: k.counter._model(X),
    "arithmetic": lambda k: k.out + 1,
    "with a real tensor": lambda k: X + k.out,
    "a product": lambda k: X.T @ k.out,
    "of known values": lambda k: k.known * 2,
    "in place": lambda k: k.out.zero_(),
    "into a real tensor": lambda k: torch.zeros(3, 4).copy_(k.out),
    "as an output": lambda k: torch.add(X, 1, out=k.out),
    "as an index": lambda k: X[k.mask],
    "many at a time": lambda k: torch._foreach_add([X], [k.out]),
    "a cast": lambda k: k.out.double(),
    "to another device": lambda k: k.out.to("meta"),
    "of a view": lambda k: k.out.T[0].detach() * 2,
    "as a parameter": lambda k: nn.Parameter(k.out) * 2,
    "like it": lambda k: torch.zeros_like(k.out),
    "a comparison": lambda k: k.out == k.out,
    "equal": lambda k: torch.equal(k.out, X),
    "a branch": lambda k: 1 if k.loss > 0 else 2,
    "item": lambda k: k.loss.item(),
    "float": lambda k: float(k.loss),
    "tolist": lambda k: k.out.tolist(),
    "numpy": lambda k: k.out.numpy(),
    "format": lambda k: f"{k.loss:.3f}",
    "pickle": lambda k: pickle.dumps(k.out),
    "save": lambda k: torch.save(k.made.state_dict(), io.BytesIO()),
    "address": lambda k: k.out.data_ptr(),
    "backward": lambda k: k.loss.backward(),
    "backward of a gradient": lambda k: k.loss.backward(torch.ones(())),
    "grad": lambda k: torch.autograd.grad(k.loss, list(k.model.parameters())),
    "SGD": lambda k: step(torch.optim.SGD, k),
    "AdamW": lambda k: step(torch.optim.AdamW, k),
    "vmap": lambda k: torch.vmap(lambda x: x * 2)(k.out),
    "a derivative": lambda k: torch.func.grad(lambda x: x.sum())(k.leaf),
    "functional_call": lambda k: torch.func.functional_call(nn.Linear(4, 4), dict(k.made.named_parameters()), (X,)),
    "a checkpoint": lambda k: torch.utils.checkpoint.checkpoint(k.made, X, use_reentrant=False),
    "another thread": lambda k: in_a_thread(lambda: k.made(X)),
    "a counter": lambda k: under_a_counter(lambda: k.made(X)),
    "other fake tensors": lambda k: under_fakes(lambda: k.out + 1),
}


@pytest.mark.parametrize("compute", COMPUTING.values(), ids=COMPUTING)
def test_a_tensor_of_a_dry_run_that_is_over_refuses_to_compute(compute: Callable[[Any], Any]) -> None:
    k = kept()
    with pytest.raises(DryRunError, match=r"made in a dry run, which is over.*Make .* outside of the block") as caught:
        compute(k)
    assert caught.value.operator in str(caught.value)
    assert caught.value.operator
    assert all(type(p) is nn.Parameter and p.grad is None for p in k.model.parameters())


def test_the_error_names_the_operator_and_the_line_of_the_program() -> None:
    k = kept()
    with pytest.raises(DryRunError, match=r"aten\.addmm\.default.*test_afterwards\.py") as caught:
        k.made(X)
    assert (caught.value.operator, caught.value.module) == ("aten.addmm.default", "")
    assert caught.value.file == __file__


@pytest.mark.parametrize("into", [False, True], ids=["from it", "into it"])
def test_a_state_is_not_loaded_and_the_real_model_keeps_its_own(into: bool) -> None:
    k, real = kept(), nn.Linear(4, 4)
    before = copy.deepcopy(real.state_dict())
    source, target = (real, k.made) if into else (k.made, real)
    with pytest.raises(RuntimeError, match="made in a dry run, which is over"):
        target.load_state_dict(source.state_dict())
    assert all(torch.equal(before[name], value) for name, value in real.state_dict().items())


def test_shapes_and_text_and_views_are_still_there() -> None:
    k = kept()
    out = k.out
    assert (out.shape, out.dtype, out.device, out.stride()) == ((3, 4), torch.float32, torch.device("cpu"), (4, 1))
    assert (out.is_contiguous(), out.is_pinned(), out.requires_grad) == (True, False, False)
    assert (out.numel(), len(out)) == (12, 3)
    assert [row.shape for row in out] == [(4,)] * 3
    assert (out.detach().data.T[1:].shape, out.flatten().shape, out[:, None].shape) == ((3, 3), (12,), (3, 1, 4))
    assert "size=(2, 6)" in repr(out.view(2, 6))
    assert "Linear" in repr(k.made)
    assert sum(p.numel() for p in k.made.parameters()) == 4 * 4 + 4
    assert k.counter.macs == 3 * 4 * 4 + 4 * 3 * 4  # copied after a forward, and a backward to the weight
    k.made.eval().requires_grad_(False).zero_grad()
    assert {out: 1}[out] == 1


def test_values_that_the_program_made_inside_are_still_known() -> None:
    k = kept()
    assert (k.known.tolist(), k.known.numpy().sum(), k.known[1].item(), float(k.known[0])) == ([1.0, 2.0], 3, 2, 1)
    assert pickle.loads(pickle.dumps(k.known)).tolist() == [1.0, 2.0]  # noqa: S301  (made above)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")  # 2.12 warns all the same
def test_unknown_values_of_a_real_sparse_tensor_are_no_numbers() -> None:
    """The pattern of indices is real, so that the tensor is no fake one."""
    known = torch.eye(3).to_sparse()
    with OpCounter(dry_run=True):
        unknown = known * torch.randn(())
        indices, values = torch.tensor([[0, 1], [1, 0]]), torch.tensor([3.0, 4.0])
        held = torch.sparse_coo_tensor(indices, values, (2, 2), check_invariants=False)
    assert (unknown @ torch.ones(3, 1)).isnan().all()
    assert held.to_dense().tolist() == [[0, 3], [4, 0]]
    assert known.to_dense().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_what_is_kept_can_be_counted_in_a_later_dry_run() -> None:
    k = kept()
    with OpCounter(dry_run=True) as c:
        out = torch.roll(k.made(k.out), 1, 0) @ torch.ones(4, 5)
        out.sum().backward()
        torch.optim.Adam(k.made.parameters()).step()
        again = copy.deepcopy(k.made)(out[:, :4])
    # forward 3*4*4 and 3*4*5; backward of the second once, of the first for the weight alone; the copy 3*4*4
    assert c.macs == 48 + 60 + 60 + 48 + 48
    with pytest.raises(DryRunError, match="which is over"):
        again.sum()
    with OpCounter(k.made, dry_run=True) as c:
        assert k.made(X).shape == (3, 4)
    assert c.macs == 48


@pytest.mark.parametrize("times", [1, 2], ids=["asked", "remembered"])
def test_a_value_of_an_earlier_dry_run_is_not_taken_for_one_of_this(times: int) -> None:
    with OpCounter(dry_run=True):
        written, filled, plain = ([torch.tensor(1.0) for _ in range(times)] for _ in range(3))
    with OpCounter(dry_run=True):
        for added, replaced in zip(written, filled, strict=True):
            added.add_(torch.randn(()))
            replaced.fill_(5.0)
    assert [number_of(tensor) for tensor in written] == [None] * times
    assert {number_of(tensor) for tensor in filled} <= {5.0, None}
    assert [number_of(tensor) for tensor in plain] == [1.0] * times


def number_of(tensor: Tensor) -> float | None:
    """Return the value, or None if it is refused."""
    try:
        return tensor.item()
    except DryRunError:
        return None


def test_what_is_kept_is_freed_when_the_program_drops_it() -> None:
    k = kept()
    gc.collect()
    with pytest.raises(DryRunError):
        k.out.sum()
    out, made = weakref.ref(k.out), weakref.ref(k.made.weight)
    gc.disable()
    try:
        del k.out, k.made
        assert out() is None
        assert made() is None
    finally:
        gc.enable()


class Wrapped(Tensor):
    pass


def test_a_tensor_with_a_class_of_the_program_refuses_as_well() -> None:
    with OpCounter(dry_run=True):
        wrapped = torch.randn(3).as_subclass(Wrapped)
    assert isinstance(wrapped, Wrapped)
    assert wrapped.shape == (3,)
    with pytest.raises(DryRunError, match="which is over"):
        wrapped.sum()
