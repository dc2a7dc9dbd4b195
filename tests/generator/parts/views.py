"""Views, in-place operators, ``out=``, and arithmetic without products."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part(2)
def view(grow):
    e, l = grow.draw.e, grow.draw.l  # noqa: E741
    return Part(
        forward=[
            grow.draw.pick(
                [
                    "x = x.transpose(1, 2).contiguous().transpose(1, 2)",
                    f"x = x.reshape(-1, {e}).view(-1, {l}, {e})",
                    "x = x.flip(1).roll(1, 2)",
                    "x = torch.cat([part.tanh() for part in x.chunk(2, -1)], -1)",
                    "x = torch.stack(x.unbind(1), 1)",
                    "x = x.unflatten(2, (2, -1)).permute(0, 1, 3, 2).flatten(2)",
                    f"x = x.as_strided(x.shape, x.stride()) if x.is_contiguous() else x.expand(-1, {l}, {e})",
                ]
            )
        ]
    )


@part(2)
def in_place(grow):
    return Part(
        forward=[
            "x = x.clone(memory_format=torch.contiguous_format)",
            grow.draw.pick(
                [
                    "x[:, 0] = x[:, 1].tanh()",
                    "x[:, :, :2].mul_(0.5)",
                    "x.transpose(1, 2).add_(1).tanh_()",
                    "x.view(-1)[::2].zero_()",
                    "x[x.shape[0] - 1].copy_(x[0])",
                    "x.masked_fill_(torch.ones_like(x).triu().bool(), 0.25)",
                    "x.index_add_(1, torch.tensor([0, 1]), x[:, :2].clone().sin())",
                ]
            ),
        ]
    )


@part()
def written_out(grow):
    return Part(
        forward=[
            "with torch.no_grad():",
            "    made = torch.empty(0)",
            grow.draw.pick(
                [
                    "    torch.mul(x.detach(), 2, out=made)",
                    "    torch.bmm(x.detach(), x.detach().mT, out=made)",
                    "    torch.add(x.detach(), 1, out=made)",
                ]
            ),
            "x = x * made.mean()",
        ]
    )


@part(2)
def arithmetic(grow):
    return Part(
        forward=[
            grow.draw.pick(
                [
                    "x = x / (1 + x.abs()) - x.mean(-1, keepdim=True)",
                    "x = torch.where(x > 0, x, x.exp() - 1)",
                    "x = x.softmax(-1) * x.cumsum(1)",
                    "x = torch.fft.irfft(torch.fft.rfft(x, dim=-1), n=x.shape[-1], dim=-1)",
                    "x = F.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2)",
                    "x = torch.clamp(x, -1, 1).sort(-1)[0]",
                    "x = x.var(1, keepdim=True) + F.normalize(x, dim=-1)",
                ]
            )
        ]
    )


@part(0.5)
def pooled(_grow):
    # In one layout: that of its result depends on whether a dispatch mode is active (docs/limits.md).
    return Part(forward=["x = F.max_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2).contiguous()"])


@part()
def buffer(grow):
    name = grow.draw.name("steps")
    return Part(
        init=[f"self.register_buffer('{name}', torch.zeros({grow.draw.e}))"],
        forward=[
            "with torch.no_grad():",
            f"    self.{name}.add_(x.detach().mean((0, 1)))",
            f"x = x + self.{name}.clone()",
        ],
    )
