"""Control flow as operators, and checkpoints that choose what they keep."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

POLICY = """\
def keep_products(ctx, op, *args, **kwargs):
    from torch.utils.checkpoint import CheckpointPolicy

    kept = op in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def keeping():
    return torch.utils.checkpoint.create_selective_checkpoint_contexts(keep_products)
"""


@part()
def selective(grow):
    """Linear layers, whose products are kept."""
    draw, a, b = grow.draw, grow.draw.name("kept"), grow.draw.name("kept")
    inner = draw.size()
    return Part(
        init=[f"self.{a}, self.{b} = nn.Linear({draw.e}, {inner}), nn.Linear({inner}, {draw.e})"],
        forward=[
            f"body = lambda y: self.{b}(self.{a}(y).sin()).tanh()",
            "x = torch.utils.checkpoint.checkpoint(body, x, use_reentrant=False, context_fn=keeping)",
        ],
        above=[POLICY],
    )


@part(deep=True)
def checkpointed_inside(grow):
    block, name = grow.inner(), grow.draw.name("twice")
    outer, inner = grow.draw.pick([True, False]), grow.draw.pick([True, False])
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[
            f"again = lambda y: torch.utils.checkpoint.checkpoint(self.{name}, y.sin(), use_reentrant={inner}).tanh()",
            f"x = torch.utils.checkpoint.checkpoint(again, x, use_reentrant={outer})",
        ],
        blocks=[block],
    )


@part(deep=True)
def checkpointed_sequence(grow):
    a, b, name = grow.inner(), grow.inner(), grow.draw.name("sequence")
    options = f"2, x, use_reentrant={grow.draw.pick([True, False])}"
    return Part(
        init=[f"self.{name} = nn.Sequential({a.name}(), {b.name}(), nn.Tanh())"],
        forward=[f"x = torch.utils.checkpoint.checkpoint_sequential(self.{name}, {options})"],
        blocks=[a, b],
    )


@part(0.1)
def branched(grow):
    """A choice between two functions as one operator."""
    draw, name = grow.draw, grow.draw.name("w")
    test = draw.pick(["x.sum() > 0", "torch.tensor(True)", f"self.{name}.sum() > 0"])
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({draw.e}, {draw.e}) / 4)"],
        forward=[
            "once, twice = lambda y, w: ((y @ w).tanh(),), lambda y, w: (((y @ w).sin() @ w).cos(),)",
            f"[x] = torch.cond({test}, once, twice, (x, self.{name}))",
        ],
        traits={"data", "no inference", "higher"},  # its kernels are traced with gradients
    )


@part(0.1)
def looped(grow):
    """A loop as one operator, which keeps nothing for a backward."""
    draw, name = grow.draw, grow.draw.name("w")
    rounds = draw.pick([1, 3])
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({draw.e}, {draw.e}) / 4)"],
        forward=[
            f"goes = lambda i, y, w: i < {rounds}",
            "turn = lambda i, y, w: (i + 1, (y @ w).tanh().to(y.dtype), w.clone())  # autocast must not change it",
            f"begin = torch.tensor(0), x.detach().clone(memory_format=torch.contiguous_format), self.{name}.detach()",
            "with torch.no_grad():",
            "    x = x + torch._higher_order_ops.while_loop(goes, turn, begin)[1]",
        ],
        traits={"data", "no inference", "higher"},
    )
