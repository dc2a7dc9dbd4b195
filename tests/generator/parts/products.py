"""Products: linear layers, matrix products in all their spellings, bilinear forms."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part(3)
def linear(grow):
    draw, a, b = grow.draw, grow.draw.name("up"), grow.draw.name("down")
    inner, act = draw.size(), draw.pick(["relu", "tanh", "sigmoid", "gelu", "silu", "relu_", "tanh_", "sin"])
    call = f"F.{act}(self.{a}(x))" if act in {"gelu", "silu"} else f"self.{a}(x).{act}()"
    bias = draw.pick(["True", "False"])
    return Part(
        init=[
            f"self.{a} = nn.Linear({draw.e}, {inner}, bias={bias})",
            f"self.{b} = nn.Linear({inner}, {draw.e}, bias={draw.pick(['True', 'False'])})",
        ],
        forward=[f"x = self.{b}({call})"],
    )


@part(2)
def own_weight(grow):
    draw, w, inner = grow.draw, grow.draw.name("w"), grow.draw.size()
    e, l = draw.e, draw.l  # noqa: E741
    forward = draw.pick(
        [
            f"x = (x @ self.{w}).tanh() @ self.{w}.t()",
            f"x = torch.matmul(torch.matmul(x, self.{w}).sin(), self.{w}.t())",
            f"x = torch.einsum('ble,fe->blf', torch.einsum('ble,ef->blf', x, self.{w}), self.{w}).tanh()",
            f"x = F.linear(F.linear(x, self.{w}.t()), self.{w})",
            f"x = torch.mm(torch.mm(x.reshape(-1, {e}), self.{w}).relu(), self.{w}.t()).view(-1, {l}, {e})",
            f"x = torch.addmm(x.reshape(-1, {e}), x.reshape(-1, {e}) @ self.{w}, self.{w}.t()).view(x.shape)",
            f"x = torch.tensordot(x, self.{w}, dims=1) @ self.{w}.t()",
            f"x = torch.stack([row @ self.{w} @ self.{w}.t() for row in x.unbind(1)], 1)",
        ]
    )
    return Part(init=[f"self.{w} = nn.Parameter(torch.randn({e}, {inner}) / 4)"], forward=[forward])


@part()
def batched(grow):
    draw = grow.draw
    return Part(
        forward=[
            draw.pick(
                [
                    "x = torch.bmm(x, torch.bmm(x.transpose(1, 2), x).tanh())",
                    "x = torch.baddbmm(x, x @ x.mT, x, alpha=0.1)",
                    "x = (x @ x.transpose(-1, -2)).softmax(-1) @ x",
                    "x = torch.einsum('blk,bke->ble', torch.einsum('ble,bke->blk', x, x).tanh(), x)",
                    "x = x.clone().baddbmm_((x @ x.mT).tanh(), x, alpha=0.1)",
                ]
            )
        ]
    )


@part()
def bilinear(grow):
    draw, name = grow.draw, grow.draw.name("bilinear")
    return Part(
        init=[f"self.{name} = nn.Bilinear({draw.e}, {draw.e}, {draw.e}, bias={draw.pick(['True', 'False'])})"],
        forward=[f"x = self.{name}(x, x.tanh()).tanh()"],
    )


@part()
def tied(grow):
    draw, a, b = grow.draw, grow.draw.name("tied"), grow.draw.name("tied")
    return Part(
        init=[
            f"self.{a}, self.{b} = nn.Linear({draw.e}, {draw.e}), nn.Linear({draw.e}, {draw.e}, bias=False)",
            f"self.{b}.weight = self.{a}.weight",
        ],
        forward=[f"x = self.{b}(self.{a}(x).tanh())"],
    )


@part()
def shared(grow):
    draw, name = grow.draw, grow.draw.name("shared")
    other = draw.name("alias")
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e})", f"self.{other} = nn.Sequential(self.{name}, nn.Tanh())"],
        forward=[f"x = self.{other}(self.{name}(x))"],
    )


@part()
def embedding(grow):
    draw, name, head = grow.draw, grow.draw.name("embedding"), grow.draw.name("head")
    return Part(
        init=[
            f"self.{name} = nn.Embedding({draw.l}, {draw.e})",
            f"self.{head} = nn.Linear({draw.e}, {draw.l})",
            f"self.{head}.weight = self.{name}.weight",
        ],
        forward=[f"x = self.{head}(x + self.{name}(torch.arange({draw.l}))) @ self.{name}.weight"],
    )


@part()
def bagged(grow):
    draw, name, mode = grow.draw, grow.draw.name("bag"), grow.draw.pick(["sum", "mean", "max"])
    weights = draw.pick(["", ", None, x[0, :2, 0].reshape(1, 2)"]) if mode == "sum" else ""
    return Part(
        init=[f"self.{name} = nn.EmbeddingBag({draw.l}, {draw.e}, mode='{mode}')"],
        forward=[f"x = x + self.{name}(torch.tensor([[0, {draw.l - 1}]]){weights})"],
    )


@part()
def frozen(grow):
    draw, name = grow.draw, grow.draw.name("frozen")
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e}).requires_grad_(False)"],
        forward=[f"x = self.{name}(x).tanh()"],
    )
