"""Ways to reach a module: by its forward, by a plain list, in and out of dicts, from a generator, replaced."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

BUNDLE = '''\
@dataclasses.dataclass
class Bundle:
    """What some models pass from module to module."""

    hidden: torch.Tensor
    mask: object = None


class Bundled(nn.Module):
    """Takes and returns one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *, bundle, **_):
        return {"out": [Bundle(self.inner(bundle.hidden)), None]}
'''


@part(deep=True)
def bundled(grow):
    block, name = grow.inner(), grow.draw.name("bundled")
    return Part(
        init=[f"self.{name} = Bundled({block.name}())"],
        forward=[f"x = self.{name}(bundle=Bundle(x, None), unused=[x])['out'][0].hidden"],
        above=[BUNDLE],
        blocks=[block],
    )


@part(deep=True)
def unregistered(grow):
    """Modules that ``named_modules()`` does not yield."""
    block, name = grow.inner(), grow.draw.name("hidden")
    init, call = grow.draw.pick(
        [
            (f"self.{name} = [{block.name}()]", f"self.{name}[0](x)"),
            (f"self.{name} = lambda x, inner={block.name}(): inner(x)", f"self.{name}(x)"),
            (f"self.__dict__['{name}'] = {block.name}()", f"self.{name}(x)"),
            (f"self.{name} = {{'one': ({block.name}(),)}}", f"self.{name}['one'][0](x)"),
        ]
    )
    return Part(init=[init], forward=[f"x = {call}"], blocks=[block])


@part(deep=True)
def called_directly(grow):
    block, name = grow.inner(), grow.draw.name("direct")
    call = grow.draw.pick(
        [
            [f"x = self.{name}.forward(x)"],
            [f"x = type(self.{name}).__call__(self.{name}, x)"],
            [f"x = functools.partial(self.{name})(x=x)"],
            [f"x = next(self.{name}(x) for _ in range(1))"],
            [f"[x] = map(self.{name}, [x])"],
            [f"x = functools.reduce(lambda y, f: f(y), [self.{name}] * 2, x)"],
            [f"x = self.get_submodule('{name}')(x)"],
            [f"x = list(self.children())[-1](x) * 0 + self.{name}(x)"],
        ]
    )
    return Part(init=[f"self.{name} = {block.name}()"], forward=call, blocks=[block])


@part(deep=True)
def replaced(grow):
    """Modules that change places, come and go."""
    a, b, one, two = grow.inner(), grow.inner(), grow.draw.name("one"), grow.draw.name("two")
    forward = grow.draw.pick(
        [
            [f"self.{one}, self.{two} = self.{two}, self.{one}", f"x = self.{one}(x)"],
            [f"x = self.{two}(self.{one}(x))", f"self.{one} = nn.Identity()"],
            [f"x = self.{one}(x)", f"self.{two} = self.{one}", f"x = self.{two}(x)"],
            [f"x = self.{two}(self.{one}(x))", f"self.{one}.extra = nn.Linear({grow.draw.e}, 2)"],
            [f"x = nn.Sequential(self.{one}, self.{two})(x)"],
        ]
    )
    return Part(
        init=[f"self.{one}, self.{two} = {a.name}(), {b.name}()"],
        forward=forward,
        blocks=[a, b],
        traits={"data"}
        if any("random" in p.traits for k in (a, b) for d in k.descendants() for p in d.parts)
        else set(),
    )


@part()
def parameter_containers(grow):
    draw, name, e = grow.draw, grow.draw.name("weights"), grow.draw.e
    weight = f"nn.Parameter(torch.randn({e}, {e}) / 4)"
    init, forward = draw.pick(
        [
            (f"nn.ParameterList([{weight}, {weight}])", [f"for w in self.{name}:", "    x = (x @ w).tanh()"]),
            (f"nn.ParameterDict({{'a': {weight}}})", [f"x = x @ self.{name}['a']"]),
            (f"nn.ParameterList([{weight}, torch.ones({e})])", [f"x = x @ self.{name}[0] + self.{name}[1]"]),
            (f"nn.ModuleDict({{'a.b'.replace('.', ' '): nn.Linear({e}, {e})}})", [f"x = self.{name}['a b'](x)"]),
        ]
    )
    return Part(init=[f"self.{name} = {init}"], forward=forward)
