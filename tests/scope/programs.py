"""Training programs whose every product tells by its size which module ran it, and what each module owes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

ROWS = 2
FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"


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


def data(*, grad=False, width=3):
    return torch.randn(ROWS, width, requires_grad=grad)


PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


@program
def plain():
    model = Pair()
    return model, lambda: model(data()).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B,
        ("a", BACKWARD): A,  # the data need no gradient
        ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def input_needs_gradient():
    model = Pair()
    return model, lambda: model(data(grad=True)).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): 2 * A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def in_place():
    class InPlace(Pair):
        def forward(self, x):
            return self.b(self.a(x).relu_()).tanh_()

    model = InPlace()
    return model, lambda: model(data()).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def retain_graph():
    model = Pair()

    def run():
        loss = model(data()).sum()
        loss.backward(retain_graph=True)
        loss.backward()

    return model, run, {("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): 2 * A, ("b", BACKWARD): 4 * B}


@program
def two_forwards_one_backward():
    model = Pair()
    return model, lambda: (model(data()) + model(data())).sum().backward(), {
        ("a", FORWARD): 2 * A, ("b", FORWARD): 2 * B, ("a", BACKWARD): 2 * A, ("b", BACKWARD): 4 * B,
    }  # fmt: skip


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

    return model, run, {("a", FORWARD): 3 * A, ("b", FORWARD): 3 * B, ("a", BACKWARD): 3 * A, ("b", BACKWARD): 6 * B}


@program
def called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = line(3, 3), line(3, 7)

        def forward(self, x):
            return self.b(self.a(self.a(x)))

    model, a, b = Twice(), ROWS * 3 * 3, ROWS * 3 * 7
    return model, lambda: model(data()).sum().backward(), {
        ("a", FORWARD): 2 * a, ("b", FORWARD): b,
        ("a", BACKWARD): 2 * a + a,  # the first call's input needs no gradient
        ("b", BACKWARD): 2 * b,
    }  # fmt: skip


def _checkpointed(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Pair(), line(7, 11)

        def forward(self, x):
            return self.head(checkpoint(self.block, x, use_reentrant=reentrant))

    model, head = Checkpointed(), ROWS * 7 * 11
    owed = {
        ("block.a", FORWARD): A, ("block.b", FORWARD): B, ("head", FORWARD): head,
        ("block.a", RECOMPUTE): A, ("block.b", RECOMPUTE): B,
        ("block.a", BACKWARD): 2 * A, ("block.b", BACKWARD): 2 * B, ("head", BACKWARD): 2 * head,
    }  # fmt: skip
    return model, lambda: model(data(grad=True)).sum().backward(), owed


@program
def checkpoint_reentrant():
    return _checkpointed(reentrant=True)


@program
def checkpoint_not_reentrant():
    model, run, owed = _checkpointed(reentrant=False)
    del owed["block.b", RECOMPUTE]  # it stops once the last input is there again, before the product itself
    return model, run, owed


@program
def checkpoint_selective():
    keep = [torch.ops.aten.mm.default]

    class Selective(Pair):
        def forward(self, x):
            contexts = lambda: create_selective_checkpoint_contexts(keep)
            return checkpoint(super().forward, x, use_reentrant=False, context_fn=contexts)

    model = Selective()
    return model, lambda: model(data()).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B,  # products are kept, nothing but views runs again
        ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


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

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 7))

        def forward(self, x):
            return Product.apply(x, self.weight)

    model = nn.Sequential(line(3, 5), Custom())
    return model, lambda: model(data()).sum().backward(), {
        ("0", FORWARD): A, ("1", FORWARD): B, ("0", BACKWARD): A, ("1", BACKWARD): 2 * B,
    }  # fmt: skip


@dataclass
class Opaque:
    hidden: torch.Tensor


@program
def opaque_outputs():
    class Opening(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = line(3, 5)

        def forward(self, x):
            return Opaque(self.fc(x))

    class Closing(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 7))

        def forward(self, opaque):
            return opaque.hidden @ self.weight

    model = nn.Sequential(Opening(), Closing())
    return model, lambda: model(data()).sum().backward(), {
        ("0.fc", FORWARD): A, ("1", FORWARD): B, ("0.fc", BACKWARD): A, ("1", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def keyword_only():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 7))

        def forward(self, *, hidden):
            return hidden @ self.weight

    class Calling(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = line(3, 5), Keyword()

        def forward(self, *, x):
            return {"out": self.b(hidden=self.a(input=x))}

    model = Calling()
    return model, lambda: model(x=data())["out"].sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def shared_module():
    layer = line(4, 4)
    model, once = nn.Sequential(layer, nn.ReLU(), layer), ROWS * 4 * 4
    return model, lambda: model(data(width=4)).sum().backward(), {
        ("0", FORWARD): 2 * once, ("0", BACKWARD): 3 * once,  # the first call's input needs no gradient
    }  # fmt: skip


@program
def tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = line(3, 5), line(3, 5)
            self.up.weight = self.down.weight
            self.mid = line(5, 3)

        def forward(self, x):
            return self.up(self.mid(self.down(x)))

    model = Tied()
    return model, lambda: model(data()).sum().backward(), {
        ("down", FORWARD): A, ("mid", FORWARD): A, ("up", FORWARD): A,
        ("down", BACKWARD): A, ("mid", BACKWARD): 2 * A, ("up", BACKWARD): 2 * A,
    }  # fmt: skip


@program
def recursion():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = line(4, 4)

        def forward(self, x, depth=2):
            return self.fc(x) if depth == 0 else self(self.fc(x), depth - 1)

    model, once = Recursive(), ROWS * 4 * 4
    return model, lambda: model(data(width=4)).sum().backward(), {
        ("fc", FORWARD): 3 * once, ("fc", BACKWARD): 5 * once,  # the first call's input needs no gradient
    }  # fmt: skip


@program
def gradient_of_a_leaf():
    model = Pair()
    return model, lambda: torch.autograd.grad(model(data()).sum(), model.a.weight), {
        ("a", FORWARD): A, ("b", FORWARD): B,
        ("a", BACKWARD): A, ("b", BACKWARD): B,  # nobody asked for the gradient of b's weight
    }  # fmt: skip


@program
def functional_gradient():
    model = Pair()

    def run():
        loss = lambda x: model(x).sum()
        torch.func.grad(loss)(data())

    # parameters are constants here: only inputs have gradients
    return model, run, {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): B,
    }  # fmt: skip


@program
def gradient_inside_forward():
    class Force(nn.Module):
        """The gradient of an inner model is what this one returns."""

        def __init__(self):
            super().__init__()
            self.energy = Pair()

        def forward(self, x):
            return torch.autograd.grad(self.energy(x).sum(), x)[0]

    model = Force()
    return model, lambda: model(data(grad=True)), {
        ("energy.a", FORWARD): A, ("energy.b", FORWARD): B, ("energy.a", BACKWARD): A, ("energy.b", BACKWARD): B,
    }  # fmt: skip


@program
def frozen_layer():
    model = Pair()
    model.a.requires_grad_(requires_grad=False)
    return model, lambda: model(data()).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B,
        ("b", BACKWARD): B,  # of its weight; below it nothing learns
    }  # fmt: skip


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

    return model, run, {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
        ("probe", RECOMPUTE): ROWS * 5 * 13,  # a module that runs inside backward
    }  # fmt: skip


@program
def post_accumulate_hook():
    model = Pair()

    def multiply(parameter):
        torch.mm(parameter.grad, parameter.grad.t())

    def run():
        handle = model.a.weight.register_post_accumulate_grad_hook(multiply)
        model(data()).sum().backward()
        handle.remove()

    return model, run, {
        ("a", FORWARD): A, ("b", FORWARD): B, ("b", BACKWARD): 2 * B,
        ("a", BACKWARD): A + 5 * 3 * 5,  # and the hook's own product, a's too
    }  # fmt: skip


@program
def saved_tensor_hooks():
    model = Pair()

    def run():
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
            out = model(data())
        out.sum().backward()

    return model, run, {
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def gradient_accumulation():
    model = Pair()

    def run():
        for _ in range(3):
            model(data()).sum().backward()

    return model, run, {("a", FORWARD): 3 * A, ("b", FORWARD): 3 * B, ("a", BACKWARD): 3 * A, ("b", BACKWARD): 6 * B}


@program
def module_that_raises():
    class Raising(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = line(3, 13)

        def forward(self, x):
            self.fc(x)
            raise ValueError

    class Recovering(Pair):
        def __init__(self):
            super().__init__()
            self.risky = Raising()

        def forward(self, x):
            try:
                x = self.risky(x)
            except ValueError:
                x = super().forward(x)
            return x

    model = Recovering()
    return model, lambda: model(data()).sum().backward(), {
        ("risky.fc", FORWARD): ROWS * 3 * 13,
        ("a", FORWARD): A, ("b", FORWARD): B, ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,
    }  # fmt: skip


@program
def outside_every_module():
    model = Pair()
    weight = torch.randn(7, 11, requires_grad=True)
    own = ROWS * 7 * 11
    return model, lambda: (model(data()) @ weight).sum().backward(), {
        ("a", FORWARD): A, ("b", FORWARD): B, ("", FORWARD): own,
        ("a", BACKWARD): A, ("b", BACKWARD): 2 * B, ("", BACKWARD): 2 * own,
    }  # fmt: skip


@program
def checkpoint_nested():
    class Inner(Pair):
        def forward(self, x):
            return self.b(checkpoint(self.a, x, use_reentrant=False))

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Inner(), line(7, 11)

        def forward(self, x):
            return self.head(checkpoint(self.block, x, use_reentrant=False))

    model, head = Outer(), ROWS * 7 * 11
    return model, lambda: model(data()).sum().backward(), {
        ("block.a", FORWARD): A, ("block.b", FORWARD): B, ("head", FORWARD): head,
        ("block.a", RECOMPUTE): A,  # b's input; a's own input is where the block begins
        ("block.a", BACKWARD): A, ("block.b", BACKWARD): 2 * B, ("head", BACKWARD): 2 * head,
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
        ("0", FORWARD): a, ("2", FORWARD): b,
        # the gradient of x; then both gradients of that product; then, through tanh, those of the first forward
        ("0", BACKWARD): a + 2 * a + 2 * a,
        ("2", BACKWARD): b + b,  # its input's gradient; then that product's weight, the seed being a constant
    }  # fmt: skip


@program
def per_sample_gradients():
    model = Pair()

    def run():
        weights = {name: p.detach() for name, p in model.named_parameters()}
        loss = lambda w, x: torch.func.functional_call(model, w, (x,)).sum()
        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, data().unsqueeze(1))

    return model, run, {
        ("a", FORWARD): A, ("b", FORWARD): B,
        ("a", BACKWARD): A, ("b", BACKWARD): 2 * B,  # as for the whole batch: the samples share no product
    }  # fmt: skip


@program
def forward_mode():
    model = Pair()
    return model, lambda: torch.func.jvp(model, (data(),), (data(),)), {
        # the value, the tangent by the weight, and the value by the weight's tangent: zeros, multiplied all the same
        ("a", FORWARD): 3 * A, ("b", FORWARD): 3 * B,
    }  # fmt: skip


@program
def no_gradient_at_all():
    model = Pair()

    def run():
        with torch.inference_mode():
            model(data())

    return model, run, {("a", FORWARD): A, ("b", FORWARD): B}
