"""Recurrent layers as PyTorch runs them on a CUDA device: by cuDNN, and cells by kernels of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import aten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
"""Numbers of cuDNN's modes by PyTorch's operator."""

_KEPT = {0: (1,), 1: (1,), 2: (4, 1), 3: (6,)}
"""Arrays like the output that cuDNN keeps of each layer and direction for backward, by mode."""

_MEASURED = {torch.float16, torch.float32, torch.bfloat16}

_DTYPES = {torch.float16, torch.float32, torch.float64, torch.bfloat16}


def layers(name: str, packed: bool, run: Callable[..., Any], *args: Any) -> Any:  # noqa: FBT001
    """Call the operator of cuDNN in place of one that runs all layers.

    Args:
        name: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
        packed: Whether the second argument says how many samples each step has.
        run: Runs the call as on the CPU.
        args: Of the operator.
    """
    x, *rest = args
    sizes: list[int] = rest.pop(0).tolist() if packed else []
    hidden, weights, has_biases, count, dropout, train, both, *order = rest
    if not torch.backends.cudnn.enabled or x.dtype not in _DTYPES:
        return run(*args)
    states = list(hidden) if name == "lstm" else [hidden, None]
    width, projection = states[0].shape[2], 0
    if states[1] is not None and states[1].shape[2] != width:
        width, projection = states[1].shape[2], width
    stride = (4 if has_biases else 2) + bool(projection)
    flattened = weights[0].new_empty(0)  # the memory of all weights, which they are views of: none is made
    out, h, c, *_ = aten("_cudnn_rnn.default")(
        x, weights, stride, flattened, *states, _MODES[name], width, projection, count,
        bool(order and order[0]), dropout, train, both, sizes, None,
    )  # fmt: skip
    return (out, h, c) if name == "lstm" else (out, h)


def lstm_cell(
    _run: Callable[..., Any],
    x: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the states after a step, by one kernel behind two products."""
    products = x.matmul(w_ih.t()), hx[0].matmul(w_hh.t())
    h, c, _ = aten("_thnn_fused_lstm_cell.default")(*products, hx[1], b_ih, b_hh)
    return h, c


def gru_cell(
    _run: Callable[..., Any],
    x: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Return the state after a step, by one kernel behind two products."""
    products = x.matmul(w_ih.t()), hx.matmul(w_hh.t())
    h: Tensor = aten("_thnn_fused_gru_cell.default")(*products, hx, b_ih, b_hh)[0]
    return h


def reserve_of(x: Tensor, *args: Any) -> int:
    """Return the bytes that cuDNN keeps for backward, as they were read of version 9.19 on an H100.

    Beside those of each layer and direction that is an array like the output between two layers, and a bit for each
    element that dropout may leave out there. Of projections, packed sequences and other dtypes none were read: 0.

    Args:
        x: The input, ``batch x steps x features`` or ``steps x batch x features``.
        args: The other arguments of ``aten._cudnn_rnn``, from ``weight_stride0`` on.
    """
    mode, hidden, projection, layers, _, dropout, _, both, packed, _ = args[4:]
    if projection or packed or x.dtype not in _MEASURED:
        return 0
    elements, directions, between = x.shape[0] * x.shape[1] * hidden, 2 if both else 1, layers - 1
    kept = layers * sum(_aligned(part * elements * x.itemsize) for part in _KEPT[mode])
    masks = between * directions * elements // 8 if dropout else 0
    size: int = 256 + directions * (kept + between * _aligned(elements * x.itemsize) + masks)
    return size


def _aligned(size: int) -> int:
    return -(-size // 32) * 32
