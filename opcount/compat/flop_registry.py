"""The registry of ``torch.utils.flop_counter`` and its functions; 2.1, which has none, gets the same ones here."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import flop_counter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["flop_registry", "register_flop_formula", "shape_wrapper"]


def _shape_wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors, and of ``out_val``, for one of shapes, and of ``out_shape``."""

    @wraps(function)
    def of_tensors(*args: Any, out_val: Any = None, **kwargs: Any) -> Any:
        return function(*map(_shapes, args), out_shape=_shapes(out_val), **_shapes(kwargs))

    return of_tensors


def _shapes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shapes(item) for name, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(map(_shapes, value))
    return value.shape if isinstance(value, Tensor) else value


def _register_flop_formula(targets: Any, get_raw: bool = False) -> Callable[..., Any]:  # noqa: FBT001, FBT002  (PyTorch's own)
    """Register a function for a packet, or for several in a list; a raw one gets tensors, others their shapes."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        of_tensors = function if get_raw else _shape_wrapper(function)
        for target in targets if isinstance(targets, (list, tuple)) else [targets]:
            if target in flop_registry:
                raise RuntimeError(f"duplicate registrations for {target}")
            flop_registry[target] = of_tensors
        return of_tensors

    return register


flop_registry: dict[Any, Any] = getattr(flop_counter, "flop_registry", {})  # these three: since 2.2
shape_wrapper: Callable[..., Any] = getattr(flop_counter, "shape_wrapper", _shape_wrapper)
register_flop_formula: Callable[..., Any] = getattr(flop_counter, "register_flop_formula", _register_flop_formula)
