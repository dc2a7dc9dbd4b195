"""Transforms of functions: derivatives and maps inside of a forward."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part(2)
def transformed(grow):
    draw, w = grow.draw, grow.draw.name("w")
    function = f"lambda y: (y @ self.{w}).tanh()"
    scalar = f"lambda y: (y @ self.{w}).sin().sum()"
    forward = draw.pick(
        [
            [f"x = torch.func.vmap({function})(x)"],
            [f"x = torch.func.vmap(torch.func.vmap({function}))(x)"],
            [f"x = torch.func.vmap(lambda y, w: y @ w, (0, None))(x, self.{w})"],
            [f"x = torch.func.vmap({function}, in_dims=1, out_dims=1)(x)"],
            [f"x = torch.func.grad({scalar})(x)"],
            [f"x = torch.func.vmap(torch.func.grad({scalar}))(x)"],
            [f"x, tangent = torch.func.jvp({function}, (x,), (x.detach(),))", "x = x + tangent"],
            [f"out, back = torch.func.vjp({function}, x)", "x = back(out)[0]"],
            [f"x = torch.func.jacrev({function})(x[0, 0]).sum() + x"],
            [f"x = torch.func.jacfwd({function})(x[0, 0]).sum() + x"],
            [f"x = torch.func.grad_and_value({scalar})(x)[0]"],
        ]
    )
    return Part(init=[f"self.{w} = nn.Parameter(torch.randn({draw.e}, {draw.e}) / 4)"], forward=forward)


@part()
def inner_gradient(grow):
    """A forward that differentiates, as energy models and gradient penalties do."""
    draw, name = grow.draw, grow.draw.name("energy")
    create = draw.pick([True, False])
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.size()})"],
        forward=[
            "with torch.enable_grad():",
            "    position = x if x.requires_grad else x.detach().requires_grad_()",
            f"    energy = self.{name}(position).tanh().sum()",
            f"    x = x + torch.autograd.grad(energy, position, create_graph={create})[0]",
        ],
        traits={"no inference"},
    )


@part(deep=True)
def functional(grow):
    block, name = grow.inner(), grow.draw.name("functional")
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[
            f"weights = {{name: p * 0.5 for name, p in self.{name}.named_parameters()}}",
            f"x = torch.func.functional_call(self.{name}, weights, (x,))",
        ],
        blocks=[block],
    )
