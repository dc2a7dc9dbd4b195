"""Higher-order operators under dispatch modes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opcount._torch.fake_slot import pop_mode
from opcount._torch.lookup import need, needed

if TYPE_CHECKING:
    from collections.abc import Callable

with needed():
    from torch._C import DispatchKey
    from torch._ops import HigherOrderOperator
    from torch.utils._python_dispatch import TorchDispatchMode

_count: Callable[[], int] = need("_C._len_torch_dispatch_stack")
_at: Callable[[int], Any] = need("_C._get_dispatch_stack_at")
_push: Callable[[Any], None] = need("_C._push_on_torch_dispatch_stack")


def rule_of(func: HigherOrderOperator, kind: type) -> Callable[..., Any] | None:
    """Return PyTorch's rule ``(mode, *args)`` for an operator under a class of modes, or None."""
    rules = getattr(func, "python_key_table", None) or vars(func)["python_key_mode_table"]  # the latter up to 2.5
    rule: Callable[..., Any] | None = rules.get(kind)
    if rule is None or rule.__code__.co_varnames[0] == "mode":
        return rule

    def under(mode: Any, *args: Any, **kwargs: Any) -> Any:  # up to 2.1 a rule runs under its mode
        with mode:
            return rule(*args, **kwargs)

    return under


def _asking_modes(original: Any) -> Any:
    """Patch how an operator is dispatched: a mode that says that it supports them all gets it like any other."""

    def dispatch(self: Any, dispatch_key: Any, /, *args: Any, **kwargs: Any) -> Any:
        mode = _at(_count() - 1) if dispatch_key == DispatchKey.Python and _count() else None
        if not getattr(mode, "supports_higher_order_operators", False):
            return original(self, dispatch_key, *args, **kwargs)
        pop_mode(None)
        try:
            return mode.__torch_dispatch__(self, (), args, kwargs)  # type: ignore[union-attr]
        finally:
            _push(mode)

    return dispatch


PASSED_TO_MODES: bool = hasattr(TorchDispatchMode, "supports_higher_order_operators")
"""Flag: modes of any class get higher-order operators. Since 2.9."""

PATCHED_AROUND: dict[tuple[Any, str], Any] = (
    {} if PASSED_TO_MODES else {(HigherOrderOperator, "dispatch"): _asking_modes}
)
"""Wrappers by class and method that let modes of any class see higher-order operators."""

_OPERATORS = "torch._higher_order_ops."
_TRACERS = (
    "create_fw_bw_graph",
    "create_fw_bw_graph_branches",
    "create_bw_fn",
    "materialize_as_graph",
    "trace_joint_graph",
)


def tracers() -> list[tuple[Any, str]]:
    """Return functions that run a body to trace its backward, by name and by each module that calls them: up to 2.8."""
    if PASSED_TO_MODES:
        return []
    return [
        (module, name)
        for path, module in list(sys.modules.items())
        if path.startswith(_OPERATORS)
        for name in _TRACERS
        if getattr(vars(module).get(name), "__module__", "").startswith(_OPERATORS)
    ]
