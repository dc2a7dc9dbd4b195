"""Random models: trees of modules that keep the shape of what they are given, so that any order of calls will run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from hypothesis import strategies as st
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (2, 4, 6, 6)


class Product(nn.Module):
    """Has no parameters, and several lines of its own in ``repr``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.transpose(-1, -2)

    def extra_repr(self) -> str:
        return "of x\nwith itself"


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "grouped conv": lambda: nn.Conv2d(4, 4, 1, groups=2, bias=False),
    "transposed conv": lambda: nn.ConvTranspose2d(4, 4, 3, padding=1),
    "linear": lambda: nn.Linear(6, 6),
    "linear without bias": lambda: nn.Linear(6, 6, bias=False),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm without parameters": lambda: nn.BatchNorm2d(4, affine=False),
    "layer norm": lambda: nn.LayerNorm(6),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "adaptive pooling": lambda: nn.AdaptiveAvgPool2d((6, 6)),
    "relu": lambda: nn.ReLU(inplace=True),
    "dropout and relu": lambda: nn.Sequential(nn.Dropout(0.5), nn.ReLU()),
    "identity": nn.Identity,
    "empty sequence": nn.Sequential,
    "wrapped": lambda: nn.DataParallel(nn.Linear(6, 6)),
    "product of activations": Product,
}


class Branch(nn.Module):
    """Calls the children named in ``order``, each as often as it stands there."""

    def __init__(self, children: dict[str, nn.Module | None], order: list[str]) -> None:
        super().__init__()
        self.order = order
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.order:
            child = self._modules[name]
            for step in child if isinstance(child, nn.ModuleList) else [child]:
                x = step(x)
        return x


NAMES = st.sampled_from(["0", "1", "2", "10", "conv", "conv1", "conv_1", "a", "A", "b", "module", "weights", "Z9"])


@st.composite
def models(draw: Any) -> nn.Module:
    """Return a model in train or eval, and how to build it again is in the example that Hypothesis prints."""
    model = _module(draw, 4, [])
    return model.train(draw(st.booleans(), label="train"))


def _module(draw: Any, depth: int, made: list[nn.Module]) -> nn.Module:
    kinds = ["leaf", "leaf", "shared"] + ["branch", "branch", "sequence", "list"] * (depth > 0)
    kind = draw(st.sampled_from(["branch", "branch", "sequence", "leaf"] if depth == 4 else kinds))
    if kind == "shared" and made:
        return draw(st.sampled_from(made))
    if kind in {"leaf", "shared"}:
        module = LEAVES[draw(st.sampled_from(sorted(LEAVES)))]()
        _tie(draw, module, made)
    else:
        module = _parent(draw, kind, depth, made)
    made.append(module)
    return module


def _parent(draw: Any, kind: str, depth: int, made: list[nn.Module]) -> nn.Module:
    if kind == "branch":
        names = draw(st.lists(NAMES, unique=True, max_size=4))
        children = {n: None if draw(st.integers(0, 9)) == 0 else _module(draw, depth - 1, made) for n in names}
        called = [n for n, child in children.items() if child is not None]
        module: nn.Module = Branch(children, draw(st.lists(st.sampled_from(called), max_size=5)) if called else [])
        _own(draw, module)
        return module
    steps = [_module(draw, depth - 1, made) for _ in range(draw(st.integers(0, 3)))]
    steps = [step for step in steps if not isinstance(step, nn.ModuleList)]  # that cannot be called
    return nn.ModuleList(steps) if kind == "list" else nn.Sequential(*steps)


def _own(draw: Any, module: nn.Module) -> None:
    """Give a parent parameters and buffers of its own, which it does not use."""
    for name in draw(st.lists(st.sampled_from(["scale", "empty", "frozen", "count", "none"]), unique=True, max_size=3)):
        if name in {"scale", "frozen"}:
            module.register_parameter(name, nn.Parameter(torch.ones(2, 3), requires_grad=name == "scale"))
        elif name == "empty":
            module.register_parameter(name, nn.Parameter(torch.ones(0, 3)))
        elif name == "count":
            module.register_buffer(name, torch.zeros(5))
        else:
            module.register_parameter(name, None)


def _tie(draw: Any, module: nn.Module, made: list[nn.Module]) -> None:
    """Let a leaf share its weight with an earlier one."""
    twins = [m for m in made if type(m) is type(module) and _weight(m) == _weight(module) != None]  # noqa: E711
    if twins and draw(st.booleans()):
        module.weight = draw(st.sampled_from(twins)).weight


def _weight(module: nn.Module) -> tuple[int, ...] | None:
    weight = getattr(module, "weight", None)
    return None if weight is None else tuple(weight.shape)


def without_absent(model: nn.Module) -> None:
    """Take away all children that are None."""
    for module in model.modules():
        for name in [name for name, child in module._modules.items() if child is None]:
            del module._modules[name]
