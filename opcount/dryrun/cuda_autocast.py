"""Casts of autocast on a CUDA device, where it computes more in float32 than on the CPU.

The rules are those of ``autocast_mode.h``. What both devices cast alike is left to PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.stand_ins import autocast_dtype, is_autocast_enabled

if TYPE_CHECKING:
    from collections.abc import Callable

IN_FLOAT32 = frozenset(
    f"{name}.{overload}"
    for names, overload in (
        ("acos asin cosh erfinv exp expm1 log log10 log1p log2 reciprocal rsqrt sinh tan softplus", "default"),
        ("layer_norm native_layer_norm group_norm rms_norm cosine_similarity dist pdist renorm logsumexp", "default"),
        ("pow", "Scalar"),
        ("pow", "Tensor_Scalar"),
        ("pow", "Tensor_Tensor"),
    )
    for name in names.split()
)
"""Operators whose operands are cast to float32."""

INTO_FLOAT32 = frozenset(
    {"softmax.int", "log_softmax.int", "sum.default", "sum.dim_IntList", "cumsum.default", "cumprod.default"}
)
"""Operators whose result is in float32, unless the program says another dtype."""

IN_LOWER_PRECISION = frozenset({"lstm_cell.default", "gru_cell.default", "mv.default", "addmv.default"})
"""Operators whose operands are cast to the dtype of autocast."""


def cast_as_on_cuda(
    name: str, way: Callable[..., Any] | None, run: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call an operator as autocast does on CUDA.

    Args:
        name: Of the overload, without its namespace.
        way: What runs it on CUDA; None: what runs it on the CPU.
        run: Runs it as on the CPU.
        args: Of the call.
        kwargs: Of the call.
    """
    if is_autocast_enabled("cpu"):
        if name in INTO_FLOAT32:
            said = kwargs.get("dtype") or next((each for each in args if isinstance(each, torch.dtype)), None)
            if said is None and _is_cast(args[0]):
                args = args[:2] if name.endswith("softmax.int") else args  # whose dtype is no keyword alone
                kwargs = {**kwargs, "dtype": torch.float32}
        else:
            dtype = torch.float32 if name in IN_FLOAT32 else autocast_dtype("cpu")
            args = tuple(_cast(each, dtype) for each in args)
            kwargs = {key: _cast(each, dtype) for key, each in kwargs.items()}
    return run(*args, **kwargs) if way is None else way(run, *args, **kwargs)


def _is_cast(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype is not torch.float64


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (list, tuple)) and any(map(_is_cast, value)):
        return [_cast(each, dtype) for each in value]
    return value.to(dtype) if _is_cast(value) else value
