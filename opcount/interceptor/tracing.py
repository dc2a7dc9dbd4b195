"""Operators that TorchScript's tracer does not record, while it traces.

Nearly all of them return no tensor, such as ``aten.equal``. In place of ``aten.convolution`` the tracer records
``aten._convolution``, which that calls below dispatch modes: hidden there, so that under any mode PyTorch takes the
result for a constant. So a mode above all others calls what the tracer records, and shows those below what PyTorch runs
without it, with sizes that are numbers.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.backends import cudnn

from opcount._torch.dispatch import aten, push_mode, schema_of
from opcount._torch.tracing import TRACERS, call_recorded, is_traced, untraced
from opcount.interceptor.stack import TransparentMode, dry_runs, interceptors, modes_below, replace_modes

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.undo import Undo

_RUN = torch.ops.aten.convolution.default
_RECORDED = aten("_convolution.default")
_ARGUMENTS = [argument.name for argument in schema_of(_RUN).arguments]


class _Recording(TransparentMode):
    """Calls the operator that the tracer records in place of the one that it does not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._records = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _RECORDED and self._records:
            self._records = False
            return _RUN(*args[: len(_ARGUMENTS)])
        if not is_traced():
            return func(*args, **kwargs or {})
        if func is _RUN:
            return self._record(*args, *((kwargs or {})[name] for name in _ARGUMENTS[len(args) :]))
        with untraced():  # sizes are numbers to the modes below
            return func(*args, **kwargs or {})

    def _record(self, *args: Any) -> Any:
        deterministic = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
        self._records = True
        try:
            with self:
                return call_recorded(_RECORDED, *args, cudnn.benchmark, deterministic, cudnn.enabled, cudnn.allow_tf32)
        finally:
            self._records = False


def _tracing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def trace(*args: Any, **kwargs: Any) -> Any:
        if not interceptors() and not dry_runs():
            return original(*args, **kwargs)
        with _Recording():
            return original(*args, **kwargs)

    return trace


PATCHED_AROUND: dict[tuple[Any, str], Callable[[Any], Any]] = dict.fromkeys(TRACERS, _tracing)
"""Wrappers by module and function."""


def record_here(undo: Undo) -> None:
    """Have convolutions recorded above a counter that is entered while TorchScript traces, until the steps have run."""
    if is_traced():
        mode = _Recording()
        undo.add(partial(_take_off, mode))
        push_mode(mode)


def _take_off(mode: _Recording) -> None:
    replace_modes([other for other in modes_below() if other is not mode])
