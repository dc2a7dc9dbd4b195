"""Checks for dtypes that kernels refuse and shape functions accept: a dry run raises as a real run does."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.dispatch import aten, dispatch_disabled

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[str, tuple[Any, ...]], None]

_LAYER = aten("mkldnn_rnn_layer.default")

_INT, _LONG, _BYTE, _BOOL = torch.int32, torch.int64, torch.uint8, torch.bool

_INDEX = (_INT, _LONG)

_PARTS = (torch.float16, torch.float32, torch.float64)
"""Dtypes of the parts of complex numbers."""

_MIXED = (torch.bfloat16, torch.float16)
"""Dtypes that norms on the CPU combine with parameters in single precision."""


def _is_integer(where: int, allowed: tuple[torch.dtype, ...], error: type[Exception], name: str, args: Any) -> None:
    """Raise for indices with a dtype that the kernel does not read."""
    given = args[where] if len(args) > where else None
    for index in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(index, Tensor) and index.dtype not in allowed:
            raise error(f"{name}: expected indices of {' or '.join(map(str, allowed))}, got {index.dtype}")


def _are_alike(where: tuple[int, ...], name: str, args: Any) -> None:
    """Raise for operands with different dtypes."""
    dtypes = [args[i].dtype for i in where if len(args) > i and isinstance(args[i], Tensor)]
    if any(dtype != dtypes[0] for dtype in dtypes):
        raise RuntimeError(f"{name}: expected operands of one dtype, got {' and '.join(map(str, dtypes))}")


def _suits_a_norm(where: tuple[int, ...], name: str, args: Any) -> None:
    """Raise for parameters whose dtype the kernel does not combine with that of the data."""
    x = args[0]
    for parameter in (args[i] for i in where if len(args) > i and isinstance(args[i], Tensor)):
        mixed = x.dtype in _MIXED and parameter.dtype is torch.float32
        if parameter.dtype != x.dtype and not mixed and x.device.type == "cpu":
            raise RuntimeError(f"{name}: mixed dtype (CPU): got {x.dtype} and {parameter.dtype}")


def _has_fractions(error: type[Exception], name: str, args: Any) -> None:
    """Raise for integers."""
    if not (args[0].dtype.is_floating_point or args[0].dtype.is_complex):
        raise error(f"{name}: not implemented for {args[0].dtype}")


def _makes_complex(name: str, args: Any) -> None:
    """Raise what the kernel raises for parts with a dtype that no complex one has: the class depends on the version."""
    dtypes = [part.dtype for part in args[:2]]
    if any(dtype not in _PARTS for dtype in dtypes):
        with dispatch_disabled():
            getattr(torch, name)(*(torch.ones(1, dtype=dtype) for dtype in dtypes))


def _has_recurrent_kernel(_name: str, args: Any) -> None:
    """Raise what oneDNN raises if it has no kernel for the dtype on this processor: a layer of one unit is run."""
    x, weight, hidden_size = args[0], args[1], args[10]
    if x.dtype is not torch.float32:
        _run_recurrent(x.dtype, weight.shape[0] // hidden_size, args[9], args[15], torch.is_grad_enabled())


@cache
def _run_recurrent(dtype: torch.dtype, gates: int, mode: int, train: bool, _recorded: bool) -> None:  # noqa: FBT001
    with dispatch_disabled():
        x, weight, bias = (torch.ones(size, dtype=dtype) for size in ((1, 1, 1), (gates, 1), (gates,)))
        _LAYER(x, weight, weight, bias, bias, x[0], x[0], False, [], mode, 1, 1, True, False, False, train)  # noqa: FBT003


def _indices(where: int, *allowed: torch.dtype, error: type[Exception] = RuntimeError) -> Check:
    return partial(_is_integer, where, allowed or _INDEX, error)


_CHECKS: dict[str, Check] = {
    "embedding_dense_backward": _indices(1),
    "index_select": _indices(2),
    "index_add": _indices(2),
    "index_fill": _indices(2, _LONG, error=IndexError),
    "index_copy": _indices(2, _LONG),
    "put": _indices(1, _LONG),
    "index": _indices(1, _INT, _LONG, _BYTE, _BOOL, error=IndexError),
    "index_put": _indices(1, _INT, _LONG, _BYTE, _BOOL, error=IndexError),
    "nll_loss_forward": _indices(1, _LONG, _BYTE),
    "nll_loss2d_forward": _indices(1, _LONG),
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), partial(_are_alike, (0, 6))),
    "convolution": partial(_are_alike, (0, 1, 2)),
    **dict.fromkeys(("complex", "polar"), _makes_complex),
    "grid_sampler_2d": partial(_are_alike, (0, 1)),
    "grid_sampler_3d": partial(_are_alike, (0, 1)),
    "linalg_cross": partial(_are_alike, (0, 1)),
    "mkldnn_rnn_layer": _has_recurrent_kernel,
    "mv": partial(_are_alike, (0, 1)),
    "addmv": partial(_are_alike, (1, 2)),
    "_cdist_forward": partial(_are_alike, (0, 1)),
    "_euclidean_dist": partial(_are_alike, (0, 1)),
    "native_layer_norm": partial(_suits_a_norm, (2, 3)),
    "native_group_norm": partial(_suits_a_norm, (1, 2)),
    "native_batch_norm": partial(_suits_a_norm, (1, 2, 3, 4)),
    **dict.fromkeys(("_softmax", "_log_softmax", "gelu", "silu"), partial(_has_fractions, NotImplementedError)),
    **dict.fromkeys(("std", "var"), partial(_has_fractions, RuntimeError)),
}
"""Checks by the operator's name, without the underscore of in-place variants."""


def check_of(func: Any) -> Callable[[tuple[Any, ...]], None] | None:
    """Return the check for an operator's arguments, or None if there is none."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.name.startswith("aten::"):
        return None
    name = schema.name.removeprefix("aten::")
    check = _CHECKS.get(name if name in _CHECKS else name.removesuffix("_"))
    return None if check is None else partial(check, name)
