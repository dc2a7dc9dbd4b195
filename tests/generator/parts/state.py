"""State that modules keep from one forward to the next: caches, buffers, counters and flags that decide."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

CACHE = '''\
class Cache:
    """Keys of the steps so far, as language models keep them."""

    def __init__(self):
        self.keys = []

    def update(self, keys):
        self.keys = [*self.keys[-1:], keys.detach()]
        return self.keys[0]


SHARED = {}


@functools.lru_cache
def table(n):
    return torch.linspace(0.5, 1, n)
'''


@part()
def cached(grow):
    draw, name, e = grow.draw, grow.draw.name("cache"), grow.draw.e
    init, forward = draw.pick(
        [
            ("{}", f"x * self.{name}.setdefault(x.shape[1], torch.linspace(0.5, 1, {e}))"),
            ("{'deep': [{}]}", f"x * self.{name}['deep'][0].setdefault('scale', torch.linspace(0.5, 1, {e}))"),
            ("collections.OrderedDict()", f"x + self.{name}.setdefault('first', x.detach()).mean()"),
            ("[]", f"x * (self.{name} or [self.{name}.append(torch.linspace(0.5, 1, {e})), self.{name}[0]])[-1]"),
            ("Cache()", f"x + self.{name}.update(x).mean()"),
            ("None", f"x * SHARED.setdefault(id(self), torch.linspace(0.5, 1, {e}))"),
            ("None", f"x * table({e})"),
        ]
    )
    return Part(init=[f"self.{name} = {init}"], forward=[f"x = {forward}"], above=[CACHE])


@part()
def shared_buffers(grow):
    """One buffer under several names, or several views of one."""
    draw, e, a, b = grow.draw, grow.draw.e, grow.draw.name("one"), grow.draw.name("other")
    init = draw.pick(
        [
            [f"self.register_buffer('{a}', torch.ones({e}))", f"self.register_buffer('{b}', self.{a})"],
            [f"self.register_buffer('{a}', torch.ones({e}))", f"self.register_buffer('{b}', self.{a}[:])"],
            [f"both = torch.ones(2, {e})", *(f"self.register_buffer('{n}', both[{i}])" for i, n in enumerate((a, b)))],
            [f"self.{a} = torch.ones({e})", f"self.register_buffer('{b}', self.{a}, persistent=False)"],
        ]
    )
    change = draw.pick(  # giving data inside of a transform of functions crashes PyTorch itself
        [
            f"self.{a}.add_(1)",
            f"self.{a}.mul_(0.5).add_(x.detach().mean())",
            f"self.{b}.copy_(x.detach()[0, 0])",
            f"self.{a} = self.{a} + 1",
            f"if torch._C._functorch.maybe_current_level() is None: self.{b}.data = torch.full_like(self.{b}, 2.0)",
        ]
    )
    return Part(init=init, forward=[change, f"x = x * self.{a}.clone() + self.{b}.clone()"])


@part()
def decided(grow):
    """Decisions by values that a dry run has at hand."""
    draw, e, name, layer = grow.draw, grow.draw.e, grow.draw.name("known"), grow.draw.name("layer")
    init, forward = draw.pick(
        [
            (
                "torch.tensor(0)",
                [f"self.{name} += 1", f"for _ in range(min(int(self.{name}), 3)):", "    x = LAYER(x)"],
            ),
            ("torch.tensor(True)", [f"if self.{name}:", "    x = LAYER(x)", f"self.{name}.fill_(False)"]),
            ("torch.tensor([1, 0, 2])", [f"for count in self.{name}.tolist():", "    x = LAYER(x) if count else x"]),
            ("torch.tensor([1, 0, 2])", [f"for _ in self.{name}.nonzero():", "    x = LAYER(x)"]),
            ("torch.tensor([1, 0, 1])", [f"if self.{name}[self.{name} > 0].sum().item() == 2:", "    x = LAYER(x)"]),
            ("torch.tensor([0.25, 0.75])", [f"if float(self.{name}.max()) > 0.5:", "    x = LAYER(x)"]),
            ("torch.zeros(3, dtype=torch.long)", [f"self.{name}[1] = 2", f"x = LAYER(x) * self.{name}.max().item()"]),
            (f"torch.arange({draw.l})", [f"x = LAYER(x[:, self.{name}.flip(0)])", f"assert self.{name}.max() < 9"]),
            (f"torch.ones({draw.l}).bool()", [f"x = LAYER(x[:, self.{name}])"]),
            (f"torch.ones({draw.l}).bool()", [f"x = torch.where(self.{name}[:, None], LAYER(x), x)"]),
            ("torch.tensor([2, 2])", ["x = torch.cat([LAYER(y) for y in x.split([1, x.shape[1] - 1], 1)], 1)"]),
            ("torch.ones(3)", [f"x = LAYER(x) if torch.equal(self.{name}, torch.ones(3)) else x"]),
            ("torch.tensor(3)", [f"x = LAYER(x).repeat(self.{name}, 1, 1)[: x.shape[0]]"]),
            ("torch.tensor(2)", [f"print(f'{{self.{name}}}', end='', file=io.StringIO())", "x = LAYER(x)"]),
        ]
    )
    return Part(
        init=[f"self.register_buffer('{name}', {init})", f"self.{layer} = nn.Linear({e}, {e})"],
        forward=[line.replace("LAYER", f"self.{layer}") for line in forward],
    )


@part()
def statistics(grow):
    """Averages of what came by, as quantizers and codebooks keep them."""
    draw, e, name = grow.draw, grow.draw.e, grow.draw.name("average")
    update = draw.pick(
        [
            f"self.{name}.lerp_(x.detach().mean((0, 1)), 0.1)",
            f"self.{name}.copy_(0.9 * self.{name} + 0.1 * x.detach().mean((0, 1)))",
            f"self.{name} = 0.9 * self.{name} + 0.1 * x.detach().mean((0, 1))",
            f"self.{name}.data.mul_(0.9)",
            f"torch.add(self.{name}, 1, out=self.{name})",
        ]
    )
    return Part(
        init=[f"self.register_buffer('{name}', torch.zeros({e}))"],
        forward=["if self.training:", f"    {update}", f"x = x - self.{name}.clone()"],
    )
