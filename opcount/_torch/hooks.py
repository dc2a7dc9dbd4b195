"""Tables of the global hooks of modules and optimizers, which PyTorch's functions add to and never look up."""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import VERSION, find, need, needed

if TYPE_CHECKING:
    from collections.abc import Callable

    Hooks = dict[int, Callable[..., Any]]

with needed():
    from torch.nn.modules import module as _modules

FORWARD_PRE_HOOKS: Hooks = need("nn.modules.module._global_forward_pre_hooks")
FORWARD_HOOKS: Hooks = need("nn.modules.module._global_forward_hooks")
ALWAYS_CALLED: dict[int, bool] = need("nn.modules.module._global_forward_hooks_always_called")
"""The keys of the forward hooks that are called after an exception, too."""
_WITH_KWARGS: dict[int, bool] | None = find("nn.modules.module._global_forward_hooks_with_kwargs")
WITH_KWARGS: dict[int, bool] = {} if _WITH_KWARGS is None else _WITH_KWARGS
"""The keys of the forward hooks that take keyword arguments. Since 2.6; `taking_kwargs` stands in before."""
BACKWARD_PRE_HOOKS: Hooks = need("nn.modules.module._global_backward_pre_hooks")
BACKWARD_HOOKS: Hooks = need("nn.modules.module._global_backward_hooks")
STEP_PRE_HOOKS: Hooks = need("optim.optimizer._global_optimizer_pre_hooks")
STEP_POST_HOOKS: Hooks = need("optim.optimizer._global_optimizer_post_hooks")


_PROFILED: Callable[[], Any] = need("optim.optimizer.Optimizer.profile_hook_step")
_CALLS_STEP_HOOKS = next(value for value in _PROFILED.__code__.co_consts if isinstance(value, CodeType))
"""Code of the function that calls the hooks of an optimizer around its step."""


def calls_step_hooks(frame: Any) -> bool:
    """Return whether a frame is PyTorch's own call of an optimizer's step, with the hooks around it."""
    return frame.f_code is _CALLS_STEP_HOOKS


class _Holder:
    """Has a function as an attribute."""

    def __init__(self, step: FunctionType) -> None:
        self.step = step


def _steps() -> list[_Holder]:
    steps = [vars(kind).get("step") for kind in vars(need("optim")).values() if isinstance(kind, type)]
    functions = [step for step in steps if isinstance(step, FunctionType)]
    return [_Holder(vars(step)["__wrapped__"] if step.__code__ is _CALLS_STEP_HOOKS else step) for step in functions]


UNHOOKED_STEPS: list[_Holder] = _steps() if VERSION < (2, 3) else []
"""Holders of the steps of PyTorch's optimizers, where dynamo takes the hooks around these away for good. Up to 2.2."""


def _unseen(*_args: object, **_kwargs: object) -> None:
    """Do nothing: the hooks' replacement in code that dynamo compiles for a higher-order operator."""


def unseen_by_dynamo(hook: Any) -> None:
    """Have code that dynamo compiles leave out a hook, which is a function of Python."""
    vars(hook)["_torchdynamo_inline"] = _unseen


def taking_kwargs(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return what PyTorch is to call for ``hook(module, args, kwargs, out)``, without ``out`` if the module raised.

    Where no hook is given keyword arguments, they are read from the frame that calls it; ``out`` is None there for a
    module that raised, too, whose exception that very frame handles.
    """
    if _WITH_KWARGS is not None:
        return hook

    def call(module: Any, args: Any, out: Any) -> Any:
        caller = sys._getframe(1)
        trace = sys.exc_info()[2] if out is None else None
        outs = () if trace is not None and trace.tb_frame is caller else (out,)
        return hook(module, args, caller.f_locals["kwargs"], *outs)

    unseen_by_dynamo(call)
    return call


def any_global_hook() -> Callable[[], bool] | None:
    """Return what dynamo asks whether modules have global hooks; None before 2.8, where it asks nothing."""
    return getattr(_modules, "_has_any_global_hook", None)


def ask_for_global_hooks(answer: Callable[[], bool] | None) -> None:
    """Have dynamo ask another function, if it asks one."""
    if answer is not None and hasattr(_modules, "_has_any_global_hook"):
        _modules._has_any_global_hook = answer
