"""An ``autograd.Function`` is named uncounted where it returns what no operator wrote that was seen."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

from opcount import OpCounter
from opcount.errors import UncountedOperatorError
from tests.features import feature

pytestmark = pytest.mark.filterwarnings("ignore:.*no formula")

X = torch.arange(6.0).reshape(2, 3) + 1
W = torch.arange(12.0).reshape(3, 4) + 1
TABLE = {"kept": torch.ones(2, 3)}


def native(out, *inputs):
    """Do as a compiled kernel does: write into memory, past every dispatcher."""
    out.detach().numpy()[...] = sum(float(np.tanh(i.detach().numpy()).sum()) for i in inputs) + 1
    return out


def product(x, w):
    return x.detach().numpy() @ w.detach().numpy()


def function(forward, backward=None, **names):
    """Return a class of functions with a forward and a backward."""
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward or (lambda ctx, g: g))}
    return type("Probe", (torch.autograd.Function,), {**methods, **names})


def uncounted(run):
    with OpCounter() as counter:
        run()
    return set(counter.coverage.uncounted)


def into_expanded(_, x):
    return native(x.new_empty(1, 3), x).expand(2, 3)


def written_by_part(_, x):
    out = x.new_empty(2, 3)
    out[0] = 0.0
    native(out[1], x)
    return out


def inplace_dirty(ctx, x):
    ctx.mark_dirty(x)
    return native(x, x)


def resized(_, x):
    out = x.new()
    out.resize_(2, 3)
    return native(out, x)


def with_helpers(_, x):
    x.sum(), x.contiguous(), (x * 2).mean()
    return native(torch.empty_like(x), x)


def read_back(_, x):
    return native(torch.empty_like(x), x) * 2 + x


def copied_back(_, x):
    out = torch.empty_like(x)
    out.copy_(native(torch.empty_like(x), x))
    return out


OPAQUE = {
    "empty_like": lambda _, x: native(torch.empty_like(x), x),
    "empty": lambda _, x: native(torch.empty(2, 3), x),
    "empty_strided": lambda _, x: native(torch.empty_strided((2, 3), (3, 1)), x),
    "new_empty": lambda _, x: native(x.new_empty(2, 3), x),
    "new_zeros": lambda _, x: native(x.new_zeros(2, 3), x),
    "zeros": lambda _, x: native(torch.zeros(2, 3), x),
    "ones_like": lambda _, x: native(torch.ones_like(x), x),
    "full": lambda _, x: native(torch.full((2, 3), 7.0), x),
    "zeros that stay zero": lambda _, x: torch.zeros_like(x),
    "a view of it": lambda _, x: native(torch.empty(3, 2), x).t(),
    "expanded": into_expanded,
    "a copy that is written": lambda _, x: native(x.clone(), x),
    "a cast copy that is written": lambda _, x: native(x.double(), x),
    "a buffer that is filled and written": lambda _, x: native(torch.empty_like(x).fill_(0.0), x),
    "written by part": written_by_part,
    "one of two": lambda _, x: (x * 2, native(torch.empty_like(x), x)),
    "helpers": with_helpers,
    "read back": read_back,
    "copied": lambda _, x: native(torch.empty_like(x), x).clone(),
    "copied back": copied_back,
    "cast": lambda _, x: native(torch.empty_like(x), x).double(),
    "concatenated": lambda _, x: torch.cat([x * 2, native(torch.empty_like(x), x)]),
    "from_numpy": lambda _, x: torch.from_numpy(product(x, W)),
    "from_numpy and a bias": lambda _, x: torch.from_numpy(product(x, W)) + torch.ones(4),
    "from_numpy, cast": lambda _, x: torch.from_numpy(product(x, W).astype("float64")).float(),
    "as_tensor": lambda _, x: torch.as_tensor(product(x, W), dtype=x.dtype),
    "tensor": lambda _, x: torch.tensor(product(x, W)),
    "tensor of a list": lambda _, x: torch.tensor(product(x, W).tolist()),
    "new": lambda _, x: x.new(product(x, W)),
    "new_tensor": lambda _, x: x.new_tensor(product(x, W)),
    "frombuffer": lambda _, x: torch.frombuffer(bytearray(product(x, W).tobytes()), dtype=x.dtype).view(2, 4),
    "from_dlpack": lambda _, x: torch.from_dlpack(product(x, W)),
    "from_dlpack and a bias": lambda _, x: torch.from_dlpack(product(x, W)) + torch.ones(4),
    "DLPack of a capsule, scaled": lambda _, x: torch.utils.dlpack.from_dlpack(product(x, W).__dlpack__()) * 2,
    "frombuffer and a bias": lambda _, x: torch.frombuffer(product(x, W), dtype=x.dtype).view(2, 4) + torch.ones(4),
    "asarray and a bias": lambda _, x: torch.asarray(product(x, W)) + torch.ones(4),
    "a dirty input": inplace_dirty,
    "resized": resized,
    "integers": lambda _, x: torch.from_numpy(np.argsort(x.detach().numpy())),
}


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "with gradients"])
@pytest.mark.parametrize("name", OPAQUE)
def test_a_function_that_returns_unseen_work_is_named(name, grad):
    probe = function(OPAQUE[name], lambda ctx, *g: X)
    x = (X.clone().requires_grad_() * 1.0) if grad else X.clone()
    assert uncounted(lambda: probe.apply(x)) == {"autograd.Probe"}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_named_without_gradients_too(mode):
    with mode():
        assert uncounted(lambda: function(OPAQUE["empty"]).apply(X)) == {"autograd.Probe"}
        assert uncounted(lambda: function(lambda _, x: x * 2).apply(X)) == set()


def out_argument(_, x):
    out = torch.empty(2, 4)
    torch.mm(x, W, out=out)
    return out


def filled_in_parts(_, x):
    out = torch.empty(4, 3)
    out[:2] = x
    out[2:] = x
    return out


def part_of_a_buffer(_, x):
    buffer = torch.empty(10, 3)
    buffer[:2] = x
    return buffer[:2]


def computed_in_place(ctx, x):
    ctx.mark_dirty(x)
    x.mul_(2)
    return x


def scattered(_, x):
    out = torch.empty_like(x)
    out[torch.tensor([0, 1])] = x
    return out


def dropped(_, x):
    return torch.bernoulli(torch.full_like(x, 0.5)) * x, torch.empty_like(x).bernoulli_(0.5)


def beta_zero(_, x):
    return torch.baddbmm(torch.empty(1, 2, 4), x[None], W[None], beta=0)


TRANSPARENT = {
    "identity": lambda _, x: x,
    "a view": lambda _, x: x.view_as(x),
    "a reshape": lambda _, x: x.reshape(3, 2).t(),
    "a copy": lambda _, x: x.clone(),
    "a cast": lambda _, x: x.double(),
    "detached": lambda _, x: x.detach(),
    "work": lambda _, x: x @ W,
    "empty, then out=": out_argument,
    "empty, then filled in parts": filled_in_parts,
    "the filled part of a buffer": part_of_a_buffer,
    "empty, then copied into": lambda _, x: torch.empty_like(x).copy_(x),
    "empty, then indexed": scattered,
    "random": dropped,
    "uniform": lambda _, x: torch.empty_like(x).uniform_(),
    "computed in place": computed_in_place,
    "nothing": lambda _, x: None,
    "no tensor": lambda _, x: (x * 2, 3, "name", None),
    "no elements": lambda _, x: (x * 2, torch.empty(0), x.new_empty(0, 3)),
    "a number": lambda _, x: (x * 2, torch.tensor(0.0), torch.zeros(1)),
    "an index": lambda _, x: x.max(1)[1],
    "rounded": lambda _, x: x.round(),
    "concatenated": lambda _, x: torch.cat([x, x * 2]),
    "sparse": lambda _, x: x.to_sparse(),
    "complex": lambda _, x: torch.complex(x, x),
    "kept by the program": lambda _, x: TABLE["kept"],
    "shape donor": lambda _, x: torch.zeros_like(torch.empty_like(x)) + x,
    "beta of 0": beta_zero,
    "numbers of Python": lambda _, x: x * torch.tensor([1.0, 2.0, 3.0]),
    "arange": lambda _, x: torch.arange(5) + x.shape[0],
}


@pytest.mark.parametrize("kind", ["two tensors", "jagged", "nested"])
@pytest.mark.filterwarnings("ignore")  # nested tensors are a prototype
def test_tensors_of_other_classes_pass_through_functions(kind):
    ragged = [torch.ones(2, 3), torch.ones(4, 3)]
    x = {
        "two tensors": lambda: feature("torch.testing._internal.two_tensor.TwoTensor")(X, X.clone()),
        "jagged": lambda: torch.nested.nested_tensor(ragged, layout=torch.jagged),
        "nested": lambda: torch.nested.nested_tensor(ragged),
    }[kind]()
    assert uncounted(lambda: function(lambda _, x: x * 2).apply(x)) == set()
    if kind != "nested":
        assert uncounted(lambda: function(lambda _, x: torch.empty_like(x)).apply(x)) == {"autograd.Probe"}


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "with gradients"])
@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_function_whose_work_was_seen_is_not_named(name, grad):
    probe = function(TRANSPARENT[name], lambda ctx, *g: X)
    x = (X.clone().requires_grad_() * 1.0) if grad else X.clone()
    with OpCounter(strict=True):
        probe.apply(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_function_that_writes_into_what_it_is_given_is_named(mode):
    into = function(lambda _, x, out: native(out, x))
    silently = function(lambda _, x, out: (native(out, x), x * 2)[1])
    with mode():
        for probe in (into, silently):
            assert uncounted(lambda probe=probe: probe.apply(X, torch.empty(2, 3))) == {"autograd.Probe"}
            assert uncounted(lambda probe=probe: probe.apply(X, torch.zeros(2, 3))) == {"autograd.Probe"}
        assert uncounted(lambda: function(inplace_dirty).apply(torch.ones(2, 3))) == {"autograd.Probe"}
        assert uncounted(lambda: function(lambda _, x, out: out.copy_(x * 2)).apply(X, torch.zeros(2, 3))) == set()


def test_a_function_inside_another_is_named_and_the_outer_one_is_not():
    inner = function(OPAQUE["empty"], lambda ctx, g: g)
    outer = type("Outer", (inner,), {"forward": staticmethod(lambda ctx, x: inner.apply(x) * 2)})
    assert uncounted(lambda: outer.apply(X)) == {"autograd.Probe"}


def test_a_function_of_an_inner_counter_is_named_in_the_outer_one_too():
    probe = function(OPAQUE["empty"])
    with OpCounter() as outer, OpCounter() as inner:
        probe.apply(X)
    assert set(outer.coverage.uncounted) == set(inner.coverage.uncounted) == {"autograd.Probe"}


class Holder(torch.Tensor):
    """A wrapper that does not say which tensors it holds, as ``__tensor_flatten__`` would."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return cls(func(*(a.inner if isinstance(a, cls) else a for a in args), **(kwargs or {})))


def test_functions_that_wrap_and_unwrap_tensors_are_not_named():
    wrap = function(lambda _, x: Holder(x), lambda _, grad: grad.inner if isinstance(grad, Holder) else grad)
    unwrap = function(lambda _, x: x.inner.view_as(x.inner), lambda _, grad: Holder(grad))

    def run():
        unwrap.apply(wrap.apply(X.clone().requires_grad_()) * 2).sum().backward()

    assert not uncounted(run)


def test_a_function_that_wraps_unseen_work_is_named():
    probe = function(lambda _, x: Holder(native(torch.empty_like(x), x)))
    assert uncounted(lambda: probe.apply(X)) == {"autograd.Probe"}


def test_strict_raises_with_the_name():
    with pytest.raises(UncountedOperatorError, match=r"autograd\.Probe \(1 call\)"), OpCounter(strict=True):
        function(OPAQUE["empty"]).apply(X)


def test_memory_inside_a_function_is_freed_as_it_would_be():
    storages = []

    def forward(_, x):
        for _ in range(3):
            big = x * 2
            storages.append(torch.multiprocessing.reductions.StorageWeakRef(big.untyped_storage()))
            del big
            assert storages[-1].expired()
        return x * 2

    assert uncounted(lambda: function(forward).apply(X)) == set()


def python_calls(run):
    """Return how many Python functions a run calls: what takes the time here, and does not depend on the machine."""
    calls = []
    sys.setprofile(lambda _frame, event, _: calls.append(1) if event == "call" else None)
    try:
        run()
    finally:
        sys.setprofile(None)
    return len(calls)


def test_a_function_of_two_operators_takes_few_calls_more_than_its_operators():
    probe = function(lambda _, x, w: (x @ w).relu())
    with OpCounter():
        probe.apply(X, W)
        watched = python_calls(lambda: probe.apply(X, W))
        operators = python_calls(lambda: probe.forward(None, X, W))
    assert watched - operators <= 100


def test_what_is_known_of_one_call_does_not_hide_what_the_next_one_does():
    transparent, opaque = function(lambda _, x: x * 2), function(OPAQUE["read back"])
    opaque.__name__ = "Opaque"
    assert uncounted(lambda: (transparent.apply(X), opaque.apply(X), transparent.apply(X))) == {"autograd.Opaque"}
    nested = function(lambda _, x: transparent.apply(x * 2) + opaque.apply(x).sum())
    nested.__name__ = "Nested"
    assert uncounted(lambda: nested.apply(X)) == {"autograd.Opaque"}  # only what ran it


class Library:
    """Answers any name with a function, as modules do that are imported late."""

    def __getattr__(self, name):
        return lambda *_: name


LIBRARY = Library()


def test_what_a_function_finds_by_name_may_answer_any_question():
    probe = function(lambda _, x: native(torch.empty_like(x), x) if LIBRARY.fast() else x)
    assert uncounted(lambda: probe.apply(X)) == {"autograd.Probe"}
