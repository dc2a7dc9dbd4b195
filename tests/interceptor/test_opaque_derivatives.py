"""A backward, a forward derivative or a rule for vmap is named uncounted where it returns what no operator wrote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.autograd.function import once_differentiable

from opcount import Cost, OpCounter
from tests.interceptor.test_opaque_functions import OPAQUE, X, function, native, uncounted

pytestmark = pytest.mark.filterwarnings("ignore:.*no formula")


def backward_of(backward, forward=lambda ctx, x: x * 2):
    probe = function(forward, backward)

    def run():
        x = X.clone().requires_grad_()
        probe.apply(x).sum().backward()

    return uncounted(run)


GRADIENTS = {
    "empty": lambda ctx, g: native(torch.empty_like(g), g),
    "zeros": lambda ctx, g: native(g.new_zeros(2, 3), g),
    "from_numpy": lambda ctx, g: torch.from_numpy(g.numpy() * 2),
    "as_tensor": lambda ctx, g: torch.as_tensor(g.numpy() * 2, dtype=g.dtype),
    "once_differentiable": once_differentiable(lambda ctx, g: native(torch.empty_like(g), g)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_backward_that_returns_unseen_work_is_named(name):
    assert backward_of(GRADIENTS[name]) == {"autograd.ProbeBackward"}


def keep(ctx, x):
    ctx.gradient = x + 1
    ctx.save_for_backward(x * 3)
    return x * 2


SEEN_GRADIENTS = {
    "work": lambda ctx, g: g * 2,
    "reversed": lambda ctx, g: g.neg(),
    "straight through": lambda ctx, g: g,
    "a copy": lambda ctx, g: g.clone(),
    "zeros": lambda ctx, g: torch.zeros_like(g),
    "ones": lambda ctx, g: torch.ones(2, 3),
    "kept": lambda ctx, g: ctx.gradient,
    "saved": lambda ctx, g: ctx.saved_tensors[0],
    "none": lambda ctx, g: None,
    "once_differentiable": once_differentiable(lambda ctx, g: g * 2),
}


@pytest.mark.parametrize("name", SEEN_GRADIENTS)
def test_a_backward_whose_work_was_seen_is_not_named(name):
    assert backward_of(SEEN_GRADIENTS[name], keep) == set()


def operator_with(backward, *, takes_list):
    """Return a call of a custom operator whose backward was registered."""
    lists = (lambda x: [x]) if takes_list else (lambda x: x)

    def twice(x):
        return lists(x[0] * 2.0 if takes_list else x * 2.0)

    schema = "(Tensor[] x) -> Tensor[]" if takes_list else "(Tensor x) -> Tensor"
    probe = torch.library.custom_op("opaque_derivatives::probe", twice, mutates_args=(), schema=schema)

    def keep_some(ctx, inputs, output):
        keep(ctx, inputs[0][0] if takes_list else inputs[0])

    probe.register_autograd(lambda ctx, g: lists(backward(ctx, g[0] if takes_list else g)), setup_context=keep_some)
    return lambda x: probe(lists(x))[0] if takes_list else probe(x)


@pytest.mark.parametrize("takes_list", [False, True])
@pytest.mark.parametrize("name", [name for name in (*GRADIENTS, *SEEN_GRADIENTS) if name != "once_differentiable"])
def test_a_registered_backward_of_an_operator_is_watched_likewise(name, takes_list):
    call = operator_with({**SEEN_GRADIENTS, **GRADIENTS}[name], takes_list=takes_list)
    named = "autograd.GeneratedBackwardFor_opaque_derivatives_probe_defaultBackward"
    assert uncounted(lambda: call(X.clone().requires_grad_()).sum().backward()) == (
        {named} if name in GRADIENTS else set()
    )


def test_a_registered_backward_may_have_a_formula():
    call = operator_with(GRADIENTS["empty"], takes_list=False)
    target = "autograd.GeneratedBackwardFor_opaque_derivatives_probe_defaultBackward"
    with OpCounter(formulas={target: lambda out, *_: Cost(macs=out.numel())}, strict=True) as counter:
        call(X.clone().requires_grad_()).sum().backward()
    assert counter.by_phase()["backward"].macs == X.numel()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, for forward derivatives
def test_a_forward_derivative_that_returns_unseen_work_is_named():
    def run(jvp):
        probe = function(lambda ctx, x: x * 2, jvp=staticmethod(jvp))
        with torch.autograd.forward_ad.dual_level():
            return probe.apply(torch.autograd.forward_ad.make_dual(X, torch.ones_like(X)))

    assert uncounted(lambda: run(lambda ctx, t: torch.from_numpy(t.numpy() * 2))) == {"autograd.ProbeJvp"}
    assert uncounted(lambda: run(lambda ctx, t: t * 2)) == set()


def test_a_rule_for_vmap_that_returns_unseen_work_is_named():
    def run(rule):
        names = {"setup_context": staticmethod(lambda *_: None), "vmap": staticmethod(rule)}
        probe = function(lambda x: x * 2, **names)
        return torch.vmap(probe.apply)(X)

    assert uncounted(lambda: run(lambda info, dims, x: (torch.from_numpy(x.numpy() * 2), dims[0]))) == {
        "autograd.Probe"
    }
    assert uncounted(lambda: run(lambda info, dims, x: (x * 2, dims[0]))) == set()


def test_zeros_of_a_backward_whose_forward_was_opaque_are_named():
    # so begins the training of a layer whose last weight is zero
    forward = OPAQUE["empty_like"]
    assert backward_of(lambda ctx, g: torch.zeros_like(g), forward) == {"autograd.Probe", "autograd.ProbeBackward"}
    assert backward_of(lambda ctx, g: g * 2, forward) == {"autograd.Probe"}


@pytest.mark.parametrize("transformed", [False, True])
def test_functions_in_the_style_of_setup_context_are_watched(transformed):
    class Native(torch.autograd.Function):
        @staticmethod
        def forward(x, scale=2):
            return native(torch.empty_like(x), x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):  # functorch gives it a tensor without memory of its own
            return (torch.from_numpy(np.ones((2, 3), "float32")) if transformed else native(grad.new_empty(2, 3))), None

    def run():
        if transformed:
            return torch.func.grad(lambda x: Native.apply(x).sum())(X)
        x = X.clone().requires_grad_()
        return Native.apply(x).sum().backward()

    assert uncounted(run) == {"autograd.Native", "autograd.NativeBackward"}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_not_named_and_what_they_run_is(reentrant):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ReLU())
    probe = function(OPAQUE["empty_like"], lambda ctx, g: native(torch.empty_like(g), g))

    def run(inner):
        x = X.clone().requires_grad_()
        torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=reentrant).sum().backward()

    assert uncounted(lambda: run(model)) == set()
    assert uncounted(lambda: run(lambda x: model(x) + torch.from_numpy(np.ones((2, 3), "float32")))) == set()
    assert uncounted(lambda: run(lambda x: probe.apply(model(x)))) == {"autograd.Probe", "autograd.ProbeBackward"}


def test_outputs_gradients_and_graph_are_those_of_a_bare_run():
    def run():
        x = X.clone().requires_grad_()
        probe = function(OPAQUE["empty_like"], GRADIENTS["empty"])
        out = probe.apply(x)
        out.sum().backward()
        return out, x.grad, out.grad_fn.name(), type(out.grad_fn).__mro__[1]

    out, grad, *names = run()
    with OpCounter():
        counted_out, counted_grad, *counted_names = run()
    assert torch.equal(out, counted_out)
    assert torch.equal(grad, counted_grad)
    assert names == counted_names
