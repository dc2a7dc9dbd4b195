"""TorchScript: what its tracer records, how it is kept from that, and what rewrites and saves modules."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import excluded_keys, set_excluded
from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_TRACE: Any = need("jit._trace")
TRACERS: tuple[tuple[Any, str], ...] = tuple((_TRACE, name) for name in ("trace", "trace_module", "_get_trace_graph"))
"""Functions that run a program to trace it, by module and name."""

_FREEZE: Any = need("jit._freeze")
FREEZERS: tuple[tuple[Any, str], ...] = tuple(
    (_FREEZE, name) for name in ("freeze", "run_frozen_optimizations", "optimize_for_inference")
)
"""Functions that rewrite a ScriptModule, by module and name."""

_SAVING = ("save", "save_to_buffer", "_save_for_lite_interpreter", "_save_to_buffer_for_lite_interpreter")
SAVERS: tuple[tuple[Any, str], ...] = tuple((need("jit.RecursiveScriptModule"), name) for name in _SAVING)
"""Methods of C++ that read the memory of a ScriptModule's parameters."""

is_traced: Callable[[], bool] = need("jit.is_tracing")
"""Returns whether TorchScript records what runs: public, but without a type."""
_state: Callable[[], Any] = need("_C._get_tracing_state")
_set_state: Callable[[Any], None] = need("_C._set_tracing_state")
_KEY: Any = need("_C._dispatch_key_parse")("Tracer")


@contextmanager
def untraced() -> Iterator[None]:
    """Have nothing recorded inside: to the tracer sizes of tensors are tensors, and part of the graph."""
    state = _state()
    if state is None:
        yield
        return
    hidden = excluded_keys().has(_KEY)
    set_excluded(_KEY, False)  # noqa: FBT003  (the state cannot be set otherwise)
    try:
        _set_state(None)
        yield
    finally:
        _set_state(state)
        set_excluded(_KEY, hidden)


def call_recorded(operator: Callable[..., Tensor], *args: Any) -> Tensor:
    """Call an operator below a dispatch mode as one that the tracer sees, which is hidden from it there."""
    set_excluded(_KEY, False)  # noqa: FBT003
    try:
        return operator(*args)
    finally:
        set_excluded(_KEY, True)  # noqa: FBT003
