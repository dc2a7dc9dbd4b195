"""Training programs whose every product tells by its size which module ran it, and what each module owes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.features import feature
from tests.modules import Calls

ROWS = 2
PHASES = "forward", "backward", "recompute"


def line(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


class Pair(nn.Module):
    """Two products: of 3 x 5 weights, then of 5 x 7."""

    def __init__(self):
        super().__init__()
        self.a, self.b = line(3, 5), line(5, 7)

    def forward(self, x):
        return self.b(self.a(x))


A, B = ROWS * 3 * 5, ROWS * 5 * 7
"""One product of each layer of a `Pair`; the gradient of its weight, or of its input, costs the same."""

HEAD = ROWS * 7 * 11
"""One product of a layer on top of a `Pair`."""

STEP = {"a": (A, A), "b": (B, 2 * B)}
"""Debt of the layers of a `Pair` for one step, forward and backward: the data need no gradient."""


def data(*, grad=False, width=3):
    return torch.randn(ROWS, width, requires_grad=grad)


PROGRAMS = {}


def program(function):
    """Add a program: it returns a model, what to run, and by path what is owed in each of the `PHASES`."""

    @wraps(function)
    def made():
        model, run, rows = function()
        owed = {(path, phase): macs for path, row in rows.items() for phase, macs in zip(PHASES, row, strict=False)}
        return model, run, {key: macs for key, macs in owed.items() if macs}

    PROGRAMS[function.__name__] = made
    return made


def stepping(model, **options):
    """Return a forward and a backward."""
    return lambda: model(data(**options)).sum().backward()


@program
def plain():
    model = Pair()
    return model, stepping(model), STEP


@program
def input_needs_gradient():
    model = Pair()
    return model, stepping(model, grad=True), {"a": (A, 2 * A), "b": (B, 2 * B)}


@program
def in_place():
    model = Calls(lambda m, x: m.b(m.a(x).relu_()).tanh_(), a=line(3, 5), b=line(5, 7))
    return model, stepping(model), STEP


@program
def retain_graph():
    model = Pair()

    def run():
        loss = model(data()).sum()
        loss.backward(retain_graph=True)
        loss.backward()

    return model, run, {"a": (A, 2 * A), "b": (B, 4 * B)}


@program
def two_forwards_one_backward():
    model = Pair()
    return model, lambda: (model(data()) + model(data())).sum().backward(), {"a": (2 * A, 2 * A), "b": (2 * B, 4 * B)}


@program
def forwards_and_backwards_interleaved():
    model = Pair()

    def run():
        first = model(data()).sum()
        second = model(data()).sum()
        first.backward()
        third = model(data()).sum()
        second.backward()
        third.backward()

    return model, run, {"a": (3 * A, 3 * A), "b": (3 * B, 6 * B)}


@program
def called_twice():
    model, a, b = Calls(lambda m, x: m.b(m.a(m.a(x))), a=line(3, 3), b=line(3, 7)), ROWS * 3 * 3, ROWS * 3 * 7
    return (
        model,
        stepping(model),
        {"a": (2 * a, 2 * a + a), "b": (b, 2 * b)},
    )  # the first call's input needs no gradient


def _checkpointed(*, reentrant, again):
    model = Calls(lambda m, x: m.head(checkpoint(m.block, x, use_reentrant=reentrant)), block=Pair(), head=line(7, 11))
    return model, stepping(model, grad=True), {
        "block.a": (A, 2 * A, A), "block.b": (B, 2 * B, again), "head": (HEAD, 2 * HEAD),
    }  # fmt: skip


@program
def checkpoint_reentrant():
    return _checkpointed(reentrant=True, again=B)


@program
def checkpoint_not_reentrant():
    return _checkpointed(reentrant=False, again=0)  # it stops once the last input is there again, before the product


@program
def checkpoint_selective():
    keep = [torch.ops.aten.mm.default]

    class Selective(Pair):
        def forward(self, x):
            contexts = lambda: feature("torch.utils.checkpoint.create_selective_checkpoint_contexts")(keep)
            return checkpoint(super().forward, x, use_reentrant=False, context_fn=contexts)

    model = Selective()
    return model, stepping(model), STEP  # products are kept, nothing but views runs again


@program
def custom_function():
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight

        @staticmethod
        def backward(ctx, grad):
            x, weight = ctx.saved_tensors
            return grad @ weight.t(), x.t() @ grad

    weight = nn.Parameter(torch.randn(5, 7))
    model = nn.Sequential(line(3, 5), Calls(lambda m, x: Product.apply(x, m.weight), weight=weight))
    return model, stepping(model), {"0": (A, A), "1": (B, 2 * B)}


@dataclass
class Opaque:
    hidden: torch.Tensor


@program
def opaque_outputs():
    opening = Calls(lambda m, x: Opaque(m.fc(x)), fc=line(3, 5))
    closing = Calls(lambda m, opaque: opaque.hidden @ m.weight, weight=nn.Parameter(torch.randn(5, 7)))
    model = nn.Sequential(opening, closing)
    return model, stepping(model), {"0.fc": (A, A), "1": (B, 2 * B)}


@program
def keyword_only():
    inner = Calls(lambda m, *, hidden: hidden @ m.weight, weight=nn.Parameter(torch.randn(5, 7)))
    model = Calls(lambda m, *, x: {"out": m.b(hidden=m.a(input=x))}, a=line(3, 5), b=inner)
    return model, lambda: model(x=data())["out"].sum().backward(), STEP


@program
def shared_module():
    layer = line(4, 4)
    model, once = nn.Sequential(layer, nn.ReLU(), layer), ROWS * 4 * 4
    return model, stepping(model, width=4), {"0": (2 * once, 3 * once)}  # the first call's input needs no gradient


@program
def tied_weights():
    down, up = line(3, 5), line(3, 5)
    up.weight = down.weight
    model = Calls(lambda m, x: m.up(m.mid(m.down(x))), down=down, up=up, mid=line(5, 3))
    return model, stepping(model), {"down": (A, A), "mid": (A, 2 * A), "up": (A, 2 * A)}


@program
def recursion():
    model = Calls(lambda m, x, depth=2: m(m.fc(x), depth - 1) if depth else m.fc(x), fc=line(4, 4))
    once = ROWS * 4 * 4
    return model, stepping(model, width=4), {"fc": (3 * once, 5 * once)}  # the first call's input needs no gradient


@program
def gradient_of_a_leaf():
    model = Pair()
    run = lambda: torch.autograd.grad(model(data()).sum(), model.a.weight)
    return model, run, {"a": (A, A), "b": (B, B)}  # nobody asked for the gradient of b's weight


@program
def functional_gradient():
    model = Pair()
    run = lambda: torch.func.grad(lambda x: model(x).sum())(data())
    return model, run, {"a": (A, A), "b": (B, B)}  # parameters are constants here: only inputs have gradients


@program
def gradient_inside_forward():
    model = Calls(lambda m, x: torch.autograd.grad(m.energy(x).sum(), x)[0], energy=Pair())
    return model, lambda: model(data(grad=True)), {"energy.a": (A, A), "energy.b": (B, B)}


@program
def frozen_layer():
    model = Pair()
    model.a.requires_grad_(requires_grad=False)
    return model, stepping(model), {"a": (A, 0), "b": (B, B)}  # b's weight; below it nothing learns


@program
def module_in_a_tensor_hook():
    model, probe = Pair(), line(5, 13)
    model.probe = probe

    def look(grad):
        probe(grad.detach())

    def run():
        hidden = model.a(data())
        hidden.register_hook(look)
        model.b(hidden).sum().backward()

    return model, run, {**STEP, "probe": (0, 0, ROWS * 5 * 13)}  # a module that runs inside backward


@program
def post_accumulate_hook():
    model = Pair()

    def multiply(parameter):
        torch.mm(parameter.grad, parameter.grad.t())

    def run():
        handle = model.a.weight.register_post_accumulate_grad_hook(multiply)
        model(data()).sum().backward()
        handle.remove()

    return model, run, {**STEP, "a": (A, A + 5 * 3 * 5)}  # and the hook's own product, a's too


@program
def saved_tensor_hooks():
    model = Pair()

    def run():
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
            out = model(data())
        out.sum().backward()

    return model, run, STEP


@program
def gradient_accumulation():
    model = Pair()

    def run():
        for _ in range(3):
            model(data()).sum().backward()

    return model, run, {"a": (3 * A, 3 * A), "b": (3 * B, 6 * B)}


@program
def module_that_raises():
    def fail(module, x):
        module.fc(x)
        raise ValueError

    class Recovering(Pair):
        def __init__(self):
            super().__init__()
            self.risky = Calls(fail, fc=line(3, 13))

        def forward(self, x):
            try:
                x = self.risky(x)
            except ValueError:
                x = super().forward(x)
            return x

    model = Recovering()
    return model, stepping(model), {**STEP, "risky.fc": (ROWS * 3 * 13,)}


@program
def outside_every_module():
    model, weight = Pair(), torch.randn(7, 11, requires_grad=True)
    return model, lambda: (model(data()) @ weight).sum().backward(), {**STEP, "": (HEAD, 2 * HEAD)}


@program
def checkpoint_nested():
    inner = Calls(lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=False)), a=line(3, 5), b=line(5, 7))
    model = Calls(lambda m, x: m.head(checkpoint(m.block, x, use_reentrant=False)), block=inner, head=line(7, 11))
    return model, stepping(model), {
        "block.a": (A, A, A),  # again for b's input; a's own input is where the block begins
        "block.b": (B, 2 * B), "head": (HEAD, 2 * HEAD),
    }  # fmt: skip


@program
def double_backward():
    model = nn.Sequential(line(3, 5), nn.Tanh(), line(5, 1))
    a, b = ROWS * 3 * 5, ROWS * 5 * 1

    def run():
        x = data(grad=True)
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()

    return model, run, {
        # the gradient of x; then both gradients of that product; then, through tanh, those of the first forward
        "0": (a, a + 2 * a + 2 * a),
        "2": (b, b + b),  # its input's gradient; then that product's weight, the seed being a constant
    }  # fmt: skip


@program
def per_sample_gradients():
    model = Pair()

    def run():
        weights = {name: p.detach() for name, p in model.named_parameters()}
        loss = lambda w, x: torch.func.functional_call(model, w, (x,)).sum()
        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, data().unsqueeze(1))

    return model, run, STEP  # as for the whole batch: the samples share no product


@program
def forward_mode():
    model = Pair()
    # the value, the tangent by the weight, and the value by the weight's tangent: zeros, multiplied all the same
    return model, lambda: torch.func.jvp(model, (data(),), (data(),)), {"a": (3 * A,), "b": (3 * B,)}


@program
def no_gradient_at_all():
    model = Pair()
    return model, lambda: torch.inference_mode()(model)(data()), {"a": (A,), "b": (B,)}
