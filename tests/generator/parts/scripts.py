"""Parts that TorchScript runs."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part

SCRIPT = '''\
@torch.jit.script
def scripted_products(x, w):
    for _ in range(2):
        x = (x @ w).tanh()
    return x


class Branches(nn.Module):
    """A module to be scripted, with a loop and a condition."""

    def __init__(self, e):
        super().__init__()
        self.linear = nn.Linear(e, e)
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x):
        self.steps += 1
        if x.dim() == 3:
            x = self.linear(x)
        for _ in range(2):
            x = torch.relu(self.linear(x))
        return x
'''


@part()
def scripted(grow):
    draw, name, e = grow.draw, grow.draw.name("script"), grow.draw.e
    example = f"torch.ones({draw.b}, {draw.l}, {e})"
    how = draw.pick(
        [
            "torch.jit.script(nn.Tanh())",
            f"torch.jit.script(nn.LayerNorm({e}))",
            f"torch.jit.script(nn.Linear({e}, {e}))",
            f"torch.jit.script(nn.Sequential(nn.Linear({e}, {e}), nn.ReLU()))",
            f"torch.jit.trace(nn.Linear({e}, {e}), {example}, check_trace=False)",
            f"torch.jit.trace(nn.Conv1d({draw.l}, {draw.l}, 3, padding=1), {example}, check_trace=False)",
            f"torch.jit.freeze(torch.jit.script(nn.Linear({e}, {e}).eval()))",
            f"torch.jit.script(Branches({e}))",
            f"nn.Sequential(nn.Linear({e}, {e}), torch.jit.script(nn.Linear({e}, {e})))",
        ]
    )
    return Part(
        init=[f"self.{name} = {how}"],
        forward=[f"x = self.{name}(x)"],
        above=[SCRIPT],
        traits={"unbooked", "script"} if "Linear" in how or "Conv" in how or "Branches" in how else set(),
    )


@part(0.5)
def script_function(grow):
    draw, name = grow.draw, grow.draw.name("w")
    return Part(
        init=[f"self.{name} = nn.Parameter(torch.randn({draw.e}, {draw.e}) / 4)"],
        forward=[f"x = scripted_products(x, self.{name})"],
        above=[SCRIPT],
        traits={"unbooked", "script"},
    )
