"""Composite operators whose kernels compute otherwise while a dispatch mode is active, in other memory or other bits.

Under inference_mode they reach a dispatch mode whole. There they run as they run without one, and are charged what
their parts cost: that is found out once for each combination of shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from opcount._torch.functorch import in_transform
from opcount.interceptor.calls import tensors
from opcount.interceptor.opening import Composite, can_run_unseen, charge_as_steps
from opcount.interceptor.operator_steps import OperatorSteps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount.interceptor.operator_steps import StepRecorder
    from opcount.interceptor.plan import Mode, Plan

_MATMUL = "aten.matmul.default"
ASKING = {_MATMUL, "aten.max_pool1d.default", "aten.linalg_svdvals.default", "aten.linalg_eigvalsh.default"}
"""Others, such as ``linalg.cond`` and nuclear norms, call these."""


class Asking(Composite):
    """Runs such an operator."""

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call."""
        given = list(tensors((*args, *kwargs.values())))
        if plan.operator == _MATMUL and not _asks(*given):
            return super().__call__(mode, plan, func, args, kwargs)
        plain = mode.counts_steps and not in_transform() and all(map(_is_plain, given))
        if not plain or not can_run_unseen(func, args, kwargs):
            return super().__call__(mode, plan, func, args, kwargs)
        return charge_as_steps(mode, plan, func, args, kwargs, _steps(func, given[0], args, kwargs))


def _asks(a: Tensor, b: Tensor) -> bool:
    """Return whether a product asks: of a batch with a single matrix, which it takes out of its own batch of one."""
    return a.dim() == b.dim() == 3 and b.shape[0] == 1


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in {Tensor, Parameter} and tensor.layout is torch.strided and not tensor.is_nested


def _steps(func: Any, first: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OperatorSteps:
    def run(recorder: StepRecorder) -> None:
        del recorder
        func(*map(_meta, args), **{name: _meta(value) for name, value in kwargs.items()})

    return OperatorSteps((func, *_about((*args, *sorted(kwargs.items())))), first.device.type, run)


def _meta(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    meta.requires_grad = value.requires_grad  # a transform of torch.func refuses requires_grad_()
    return meta


def _about(values: Any) -> Iterator[object]:
    for value in values:
        if isinstance(value, Tensor):
            yield tuple(value.shape), value.stride(), value.dtype, value.device.type, value.requires_grad
        else:
            yield tuple(_about(value)) if isinstance(value, (list, tuple)) else value
