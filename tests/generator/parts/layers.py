"""PyTorch's own layers: convolutions, norms, recurrent networks, attention."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part(2)
def convolution(grow):
    draw, name = grow.draw, grow.draw.name("conv")
    e, kind = draw.e, draw.pick(["plain", "depthwise", "grouped", "transposed", "same"])
    groups = {"plain": 1, "depthwise": e, "grouped": 2, "transposed": draw.pick([1, 2]), "same": 1}[kind]
    layer = "nn.ConvTranspose1d" if kind == "transposed" else "nn.Conv1d"
    padding = "'same'" if kind == "same" else "1"
    return Part(
        init=[
            f"self.{name} = {layer}({e}, {e}, 3, padding={padding}, groups={groups}, bias={draw.pick([True, False])})"
        ],
        forward=[f"x = self.{name}(x.transpose(1, 2)).transpose(1, 2)"],
    )


@part(2)
def image(grow):
    draw, a, b = grow.draw, grow.draw.name("conv"), grow.draw.name("back")
    c, dims = draw.even(), draw.pick([2, 3])
    view, back = ("unsqueeze(1)", "squeeze(1)") if dims == 2 else ("unsqueeze(1).unsqueeze(1)", "squeeze(1).squeeze(1)")
    transposed = draw.chance(0.4)
    second = f"nn.ConvTranspose{dims}d({c}, 1, 3, padding=1)" if transposed else f"nn.Conv{dims}d({c}, 1, 1)"
    between = draw.pick(["relu_()", "tanh()", "contiguous()"])
    return Part(
        init=[f"self.{a} = nn.Conv{dims}d(1, {c}, 3, padding=1, dilation=1)", f"self.{b} = {second}"],
        forward=[f"x = self.{b}(self.{a}(x.{view}).{between}).{back}"],
    )


@part()
def batch_norm(grow):
    draw, name = grow.draw, grow.draw.name("norm")
    momentum = draw.pick(["0.1", "None"])
    return Part(
        init=[f"self.{name} = nn.BatchNorm1d({draw.e}, momentum={momentum}, affine={draw.pick([True, False])})"],
        forward=[f"x = self.{name}(x.transpose(1, 2)).transpose(1, 2)"],
    )


@part()
def norm(grow):
    draw, name = grow.draw, grow.draw.name("norm")
    layer, forward = draw.pick(
        [
            (f"nn.LayerNorm({draw.e})", "self.{}(x)"),
            (f"nn.RMSNorm({draw.e})", "self.{}(x)"),
            (f"nn.GroupNorm(2, {draw.e})", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
            (f"nn.InstanceNorm1d({draw.e}, affine=True)", "self.{}(x.transpose(1, 2)).transpose(1, 2)"),
        ]
    )
    return Part(init=[f"self.{name} = {layer}"], forward=[f"x = {forward.format(name)}"])


@part(2)
def recurrent(grow):
    draw, name = grow.draw, grow.draw.name("rnn")
    kind, both, layers = draw.pick(["RNN", "LSTM", "GRU"]), draw.chance(0.4), draw.pick([1, 1, 2])
    size = draw.e // 2 if both else draw.e
    options = f"num_layers={layers}, batch_first=True, bidirectional={both}, bias={draw.pick([True, False])}"
    if kind == "LSTM" and draw.chance(0.3):
        return Part(
            init=[f"self.{name} = nn.LSTM({draw.e}, {size + 1}, proj_size={size}, {options})"],
            forward=[f"x = self.{name}(x)[0]"],
        )
    return Part(init=[f"self.{name} = nn.{kind}({draw.e}, {size}, {options})"], forward=[f"x = self.{name}(x)[0]"])


@part()
def cell(grow):
    draw, name, kind = grow.draw, grow.draw.name("cell"), grow.draw.pick(["RNN", "LSTM", "GRU"])
    step = f"state = self.{name}(x[:, t], state)"
    return Part(
        init=[f"self.{name} = nn.{kind}Cell({draw.e}, {draw.e})"],
        forward=[
            "steps, state = [], None",
            f"for t in range({draw.l}):",
            f"    {step}",
            f"    steps.append(state{'[0]' if kind == 'LSTM' else ''})",
            "x = torch.stack(steps, 1)",
        ],
    )


@part()
def attention(grow):
    draw, name = grow.draw, grow.draw.name("attention")
    return Part(
        init=[f"self.{name} = nn.MultiheadAttention({draw.e}, 2, batch_first=True, bias={draw.pick([True, False])})"],
        forward=[f"x = self.{name}(x, x, x, need_weights={draw.pick([True, False])})[0]"],
    )


@part()
def encoder(grow):
    draw, name = grow.draw, grow.draw.name("encoder")
    options = f"dropout={draw.pick(['0.0', '0.1'])}, batch_first=True, norm_first={draw.pick([True, False])}"
    return Part(
        init=[f"self.{name} = nn.TransformerEncoderLayer({draw.e}, 2, {draw.size()}, {options})"],
        forward=[f"x = self.{name}(x)"],
        traits={"encoder"},
    )


@part()
def scaled_products(grow):
    draw = grow.draw
    options = draw.pick(["", ", is_causal=True", ", scale=0.5"])
    return Part(
        forward=[
            f"heads = x.reshape(-1, {draw.l}, 2, {draw.e // 2}).transpose(1, 2)",
            f"x = F.scaled_dot_product_attention(heads, heads.sin(), heads{options}).transpose(1, 2).flatten(2)",
        ]
    )


@part()
def dropout(grow):
    draw = grow.draw
    name = draw.name("dropout")
    return Part(init=[f"self.{name} = nn.Dropout(0.3)"], forward=[f"x = self.{name}(x)"])
