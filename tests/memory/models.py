"""Models of a few kinds, and a training loop, whose memory is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, AdamW
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(x + self.bn2(self.conv2(y)))


class Attention(nn.Module):
    """Self-attention in one operator, or step by step."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.heads, self.fused = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, s, w = x.shape
        q, k, v = (t.view(n, s, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) / (w // self.heads) ** 0.5
            y = functional.dropout(scores.softmax(-1), 0.1) @ v
        return self.out(y.transpose(1, 2).reshape(n, s, w))


class Block(nn.Module):
    """A layer of a transformer."""

    def __init__(self, width: int, *, fused: bool) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, 4, fused=fused)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Decoder(nn.Module):
    """A small language model; the head and the embedding share their weight."""

    def __init__(self, *, fused: bool = True, reentrant: bool | None = None) -> None:
        super().__init__()
        self.tokens, self.reentrant = nn.Embedding(97, 32), reentrant
        self.blocks = nn.ModuleList(Block(32, fused=fused) for _ in range(3))
        self.head = nn.Linear(32, 97, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids)
        for block in self.blocks:
            if self.reentrant is None:
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.reentrant, preserve_rng_state=False)
        return self.head(x)


class Recurrent(nn.Module):
    """Two recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(16, 24, 2, batch_first=True), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


class SparseRows(nn.Module):
    """An embedding whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(500, 16, sparse=True), nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.rows(ids))


def mlp() -> nn.Module:
    """Return a multilayer perceptron."""
    return nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 50), nn.GELU(), nn.Linear(50, 5))


def resnet() -> nn.Module:
    """Return a small residual network."""
    stem = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(*stem, Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "mlp": (mlp, lambda: torch.randn(16, 20)),
    "resnet": (resnet, lambda: torch.randn(2, 3, 32, 32)),
    "fused attention": (Decoder, lambda: torch.randint(97, (2, 12))),
    "attention": (lambda: Decoder(fused=False), lambda: torch.randint(97, (2, 12))),
    "checkpoint": (lambda: Decoder(reentrant=False), lambda: torch.randint(97, (2, 12))),
    "reentrant checkpoint": (lambda: Decoder(reentrant=True), lambda: torch.randint(97, (2, 12))),
    "lstm": (Recurrent, lambda: torch.randn(2, 7, 16)),
    "sparse": (SparseRows, lambda: torch.randint(500, (4, 8))),
}

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "none": lambda _: None,  # type: ignore[dict-item,return-value]
    "sgd": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "adamw": lambda p: AdamW(p, foreach=False),
    "foreach": lambda p: AdamW(p, foreach=True),
    "fused": lambda p: AdamW(p, fused=True),
}


def training(name: str, optimizer: str, steps: int = 2) -> tuple[nn.Module, torch.Tensor, Callable[[], None]]:
    """Return a model, its input, and a loop that trains it."""
    torch.manual_seed(0)
    make, draw = MODELS[name]
    model, x = make(), draw()
    parameters = [p for n, p in model.named_parameters() if not n.startswith("rows.")]  # sparse gradients fit few
    stepper: Any = OPTIMIZERS[optimizer](parameters)

    def run() -> None:
        for _ in range(steps):
            loss = model(x).square().mean()
            loss.backward()
            del loss
            if stepper is not None:
                stepper.step()
                stepper.zero_grad()

    return model, x, run
