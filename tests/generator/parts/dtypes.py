"""Other number formats: autocast around blocks and around functions of several products, modules that are cast."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part()
def autocast(grow):
    """Composite functions in bfloat16."""
    draw, name, e = grow.draw, grow.draw.name("half"), grow.draw.e
    init, forward = draw.pick(
        [
            (f"nn.Linear({e}, {e})", "M(x)"),
            (f"nn.Bilinear({e}, {e}, {e})", "M(x, x.tanh())"),
            (f"nn.MultiheadAttention({e}, 2, batch_first=True)", "M(x, x, x)[0]"),
            (f"nn.TransformerEncoderLayer({e}, 2, 5, 0.0, batch_first=True)", "M(x)"),
            (f"nn.LSTM({e}, {e}, batch_first=True)", "M(x)[0]"),
            (f"nn.GRUCell({e}, {e})", "torch.stack([M(y) for y in x.unbind(1)], 1)"),
            (f"nn.Conv1d({e}, {e}, 3, padding=1)", "M(x.transpose(1, 2)).transpose(1, 2)"),
            (f"nn.Parameter(torch.randn({e}, {e}) / 4)", "torch.einsum('ble,ef->blf', x, M)"),
            (f"nn.Parameter(torch.randn({e}, {e}) / 4)", "torch.tensordot(x, M, dims=1)"),
            (f"nn.Parameter(torch.randn({e}, {e}) / 4)", "torch.baddbmm(x, x @ x.mT, x)"),
            (f"nn.LayerNorm({e})", "M(x.bfloat16())"),
            (f"nn.Linear({e}, {e})", "F.scaled_dot_product_attention(M(x), x.bfloat16(), x.bfloat16())"),
            (f"nn.Linear({e}, {e})", "M(x) * F.cosine_similarity(M(x), x.bfloat16(), -1)[..., None]"),
        ]
    )
    options = draw.pick(["", ", cache_enabled=False", ", enabled=False"])
    return Part(
        init=[f"self.{name} = {init}"],
        forward=[
            f"with torch.autocast('cpu', dtype=torch.bfloat16{options}):",
            f"    x = {forward.replace('M', f'self.{name}')}",
            "x = x.float()",
        ],
        traits={"autocast", *(["encoder"] if "Encoder" in init else [])},
    )


@part(deep=True)
def autocast_around(grow):
    block, name = grow.inner(), grow.draw.name("half")
    dtype = grow.draw.pick(["bfloat16", "bfloat16", "float16"])
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[f"with torch.autocast('cpu', dtype=torch.{dtype}):", f"    x = self.{name}(x).float()"],
        blocks=[block],
        traits={"autocast"},
    )


@part()
def cast_module(grow):
    """A layer of another dtype than its input, cast before the model runs or in the middle of it."""
    draw, name, e = grow.draw, grow.draw.name("cast"), grow.draw.e
    dtype = draw.pick(["double", "bfloat16"])
    late = draw.chance(0.5)
    layer = draw.pick([f"nn.Linear({e}, {e})", f"nn.LSTM({e}, {e}, batch_first=True)", f"nn.LayerNorm({e})"])
    out = "[0]" if "LSTM" in layer else ""
    return Part(
        init=[f"self.{name} = {layer}{'' if late else f'.{dtype}()'}"],
        forward=[f"x = self.{name}{f'.{dtype}()' if late else ''}(x.{dtype}()){out}.float()"],
    )
