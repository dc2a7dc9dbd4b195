"""Things that programs do besides calling layers: copies, threads, subclasses, loops, decisions by values."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

SUBCLASSES = '''\
class Plain(torch.Tensor):
    """A subclass that does nothing."""


class Named(torch.Tensor):
    """A subclass that looks at every function."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})
'''

WRAPPER = '''\
class Wrapped(torch.Tensor):
    """A subclass that holds a tensor, and says itself what operators do to it."""

    @staticmethod
    def __new__(cls, inner):
        layout = {"dtype": inner.dtype, "strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **layout)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(Wrapped, lambda each: each.inner, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, Wrapped, func(*args, **kwargs))


class Wrap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return Wrapped(x)

    @staticmethod
    def backward(ctx, grad):
        return Unwrap.apply(grad)


class Unwrap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.inner.view_as(x.inner)

    @staticmethod
    def backward(ctx, grad):
        return Wrap.apply(grad)
'''


@part(deep=True)
def in_a_thread(grow):
    block, name = grow.inner(), grow.draw.name("worker")
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[
            "found, grad = [], torch.is_grad_enabled()",
            f"work = lambda y: found.append(torch.set_grad_enabled(grad) and None or self.{name}(y))",
            "worker = threading.Thread(target=work, args=(x,))",
            "worker.start()",
            "worker.join()",
            "x = found[0]",
        ],
        blocks=[block],
        traits={"no inference", "threads"},  # inference mode is a thread's own
    )


@part(deep=True)
def copied(grow):
    block, name = grow.inner(), grow.draw.name("copied")
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[f"x = copy.deepcopy(self.{name})(x)"],
        blocks=[block],
    )


@part(deep=True)
def made_late(grow):
    block, name = grow.inner(), grow.draw.name("late")
    return Part(
        init=[f"self.{name} = None"],
        forward=[f"if self.{name} is None:", f"    self.{name} = {block.name}()", f"x = self.{name}(x)"],
        blocks=[block],
        traits={"data"} if any("random" in p.traits for b in block.descendants() for p in b.parts) else set(),
    )


@part()
def lazy(grow):
    name, e = grow.draw.name("lazy"), grow.draw.e
    layers = [
        (f"nn.LazyLinear({e})", "self.{}(x)"),
        (f"nn.LazyConv1d({e}, 3, padding=1)", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
        (f"nn.LazyConvTranspose1d({e}, 3, padding=1)", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
        ("nn.LazyBatchNorm1d()", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
        ("nn.LazyInstanceNorm1d(affine=True)", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
    ]
    layer, forward = layers[grow.draw.names % len(layers)]  # no choice: what follows in a program stays the same
    crashes = f"torch._C._functorch.maybe_current_level() is not None and nn.parameter.is_lazy(self.{name}.weight)"
    return Part(
        init=[f"self.{name} = {layer}"],
        forward=[f"if not ({crashes}):  # PyTorch itself, in a transform", f"    x = {forward.format(name)}"],
    )


@part(deep=True)
def recursive(grow):
    block, name, depth = grow.inner(), grow.draw.name("recursive"), grow.draw.name("depth")
    return Part(
        init=[f"self.{name}, self.{depth} = {block.name}(), 0"],
        forward=[
            f"x = self.{name}(x)",
            f"if self.{depth} < 2:",
            f"    self.{depth} += 1",
            "    x = self(x)",
            f"    self.{depth} -= 1",
        ],
        blocks=[block],
    )


@part()
def subclass(grow):
    draw, name = grow.draw, grow.draw.name("linear")
    kind = draw.pick(["Plain", "Named"])
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e})"],
        forward=[f"x = self.{name}(x.as_subclass({kind})).tanh().as_subclass(torch.Tensor)"],
        above=[SUBCLASSES],
    )


@part()
def wrapped(grow):
    draw, name = grow.draw, grow.draw.name("w")
    body = draw.pick(
        ["F.linear(wide, weight).tanh()", "(wide @ weight).relu() + wide", "wide.clone().mul_(2) @ weight"]
    )
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({draw.e}, {draw.e}) / 4)"],
        forward=[f"wide, weight = Wrap.apply(x), Wrap.apply(self.{name})", f"x = Unwrap.apply({body})"],
        above=[WRAPPER],
        traits={"data"},
    )


@part(deep=True)
def counted(grow):
    """A counter inside of a model, which is entered again and again."""
    block, name, counter = grow.inner(), grow.draw.name("counted"), grow.draw.name("counter")
    return Part(
        init=[f"self.{name} = {block.name}()", f"self.{counter} = OpCounter({grow.draw.pick(['', f'self.{name}'])})"],
        forward=[f"with self.{counter}:", f"    x = self.{name}(x)"],
        blocks=[block],
    )


@part()
def parametrized(grow):
    draw, name = grow.draw, grow.draw.name("parametrized")
    how = draw.pick(["weight_norm", "spectral_norm"])
    return Part(
        init=[f"self.{name} = nn.utils.parametrizations.{how}(nn.Linear({draw.e}, {draw.e}))"],
        forward=[f"x = self.{name}(x)"],
    )


@part()
def complex_numbers(grow):
    draw, name = grow.draw, grow.draw.name("w")
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({draw.e}, {draw.e}, dtype=torch.cfloat) / 4)"],
        forward=[f"x = (torch.complex(x, x.sin()) @ self.{name}).abs()"],
    )


@part()
def generated(grow):
    """A loop over steps with a cache, as generate() has."""
    draw, q, k = grow.draw, grow.draw.name("query"), grow.draw.name("key")
    return Part(
        init=[f"self.{q}, self.{k} = nn.Linear({draw.e}, {draw.e}), nn.Linear({draw.e}, {draw.e})"],
        forward=[
            "past, steps = None, []",
            f"for t in range({draw.l}):",
            "    now = x[:, t : t + 1]",
            f"    past = self.{k}(now) if past is None else torch.cat([past, self.{k}(now)], 1)",
            f"    steps.append((self.{q}(now) @ past.transpose(1, 2)).softmax(-1) @ past)",
            "x = torch.cat(steps, 1)",
        ],
    )


@part()
def chosen(grow):
    """Control flow that looks at values."""
    draw, name = grow.draw, grow.draw.name("choice")
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e})"],
        forward=["if x.mean() > 0:", f"    x = self.{name}(x)", "else:", "    x = x.tanh()"],
        traits={"data"},
    )


@part()
def masked(grow):
    """Shapes that depend on values."""
    draw, name = grow.draw, grow.draw.name("routed")
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e})"],
        forward=["chosen = x[:, :, 0] > 0", "x = x.clone()", f"x[chosen] = self.{name}(x[chosen])"],
        traits={"data"},
    )


@part()
def packed(grow):
    draw, name = grow.draw, grow.draw.name("packed")
    return Part(
        init=[f"self.{name} = nn.{draw.pick(['GRU', 'LSTM'])}({draw.e}, {draw.e}, batch_first=True)"],
        forward=[
            f"lengths = torch.tensor([{draw.l}] + [{draw.l - 1}] * (x.shape[0] - 1))",
            "pack = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)",
            f"x = nn.utils.rnn.pad_packed_sequence(self.{name}(pack)[0], batch_first=True)[0]",
        ],
        traits={"data"},
    )
