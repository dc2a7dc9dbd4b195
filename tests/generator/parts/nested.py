"""Modules inside of modules: containers, loops, recursion, checkpoints, exceptions, autocast."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


def _inner(grow, stem="inner"):
    block = grow.inner()
    name = grow.draw.name(stem)
    return block, name, f"self.{name} = {block.name}()"


@part(3, deep=True)
def inner(grow):
    block, name, init = _inner(grow)
    return Part(init=[init], forward=[f"x = self.{name}(x)"], blocks=[block])


@part(deep=True)
def residual(grow):
    block, name, init = _inner(grow)
    return Part(init=[init], forward=[f"x = x + self.{name}(x)"], blocks=[block])


@part(deep=True)
def containers(grow):
    a, b, name = grow.inner(), grow.inner(), grow.draw.name("many")
    form = grow.draw.pick(["list", "dict", "sequential"])
    init, forward = {
        "list": (f"nn.ModuleList([{a.name}(), {b.name}()])", [f"for each in self.{name}:", "    x = each(x)"]),
        "dict": (
            f"nn.ModuleDict({{'a': {a.name}(), 'b': {b.name}()}})",
            [f"x = self.{name}['b'](self.{name}['a'](x))"],
        ),
        "sequential": (f"nn.Sequential({a.name}(), nn.Tanh(), {b.name}())", [f"x = self.{name}(x)"]),
    }[form]
    return Part(init=[f"self.{name} = {init}"], forward=forward, blocks=[a, b])


@part(deep=True)
def loop(grow):
    block, name, init = _inner(grow)
    return Part(init=[init], forward=["for _ in range(2):", f"    x = self.{name}(x)"], blocks=[block])


@part(deep=True)
def checkpointed(grow):
    block, name, init = _inner(grow)
    options = grow.draw.pick(["use_reentrant=True", "use_reentrant=False", "use_reentrant=False, early_stop=False"])
    body = grow.draw.pick([f"self.{name}", f"lambda y: self.{name}(y).tanh()"])
    return Part(
        init=[init],
        forward=[f"x = torch.utils.checkpoint.checkpoint({body}, x, {options})"],
        blocks=[block],
        traits={"reentrant"} if "True" in options else set(),
    )


@part(deep=True)
def caught(grow):
    block, name, init = _inner(grow)
    breaks = grow.draw.pick(["raise ValueError", "torch.ones(2) @ torch.ones(3)", "nn.Softmax(dim=99)(x)"])
    return Part(
        init=[init],
        forward=[
            "try:",
            f"    x = self.{name}(x)",
            f"    {breaks}",
            "except (ValueError, RuntimeError, IndexError):",
            "    x = x.tanh()",
        ],
        blocks=[block],
    )


@part(deep=True)
def without_grad(grow):
    block, name, init = _inner(grow)
    return Part(init=[init], forward=["with torch.no_grad():", f"    x = x + self.{name}(x)"], blocks=[block])
