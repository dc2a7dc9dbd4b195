"""Functions of autograd that programs write themselves."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

PRODUCT = '''\
class Product(torch.autograd.Function):
    """A product that says itself how to differentiate it."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.t(), x.flatten(0, 1).t() @ grad.flatten(0, 1)
'''

IN_PLACE = '''\
class Halve(torch.autograd.Function):
    """Works in place."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(0.5)

    @staticmethod
    def backward(ctx, grad):
        return grad * 0.5
'''

SEVERAL = '''\
class Several(torch.autograd.Function):
    """Returns several tensors, one of which needs no gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        signs = x.sign()
        ctx.mark_non_differentiable(signs)
        return x.sin(), x * 2, signs

    @staticmethod
    def backward(ctx, first, second, _signs):
        (x,) = ctx.saved_tensors
        return first * x.cos() + second * 2
'''

OPAQUE = '''\
class ByNumpy(torch.autograd.Function):
    """Computes where PyTorch does not look."""

    @staticmethod
    def forward(ctx, x):
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        out.numpy()[...] = numpy.tanh(x.detach().numpy())
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * (1 - out * out)
'''

WITH_GRAD = '''\
class Recomputing(torch.autograd.Function):
    """Runs a graph of its own in backward."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return (x @ w).tanh()

    @staticmethod
    def backward(ctx, grad):
        x, w = (each.detach().requires_grad_() for each in ctx.saved_tensors)
        with torch.enable_grad():
            out = (x @ w).tanh()
        return torch.autograd.grad(out, (x, w), grad)
'''

SETUP = '''\
class Scaled(torch.autograd.Function):
    """In the newer style, with a rule for vmap and one for forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, factor):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None

    @staticmethod
    def jvp(ctx, tangent, _factor):
        return tangent * ctx.factor
'''


@part()
def function_of_a_product(grow):
    name = grow.draw.name("w")
    function, text = grow.draw.pick([("Product", PRODUCT), ("Recomputing", WITH_GRAD)])
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({grow.draw.e}, {grow.draw.e}) / 4)"],
        forward=[f"x = {function}.apply(x, self.{name})"],
        above=[text],
    )


@part()
def function_in_place(_grow):
    return Part(forward=["x = Halve.apply(x.clone())"], above=[IN_PLACE])


@part()
def function_of_several(_grow):
    return Part(forward=["first, second, signs = Several.apply(x)", "x = first + second * signs"], above=[SEVERAL])


@part()
def function_with_setup(_grow):
    return Part(forward=["x = Scaled.apply(x, 0.5)"], above=[SETUP])


@part(0.5)
def function_by_numpy(_grow):
    return Part(forward=["x = ByNumpy.apply(x)"], above=[OPAQUE], traits={"opaque", "data"})
