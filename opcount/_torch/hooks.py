"""Tables of the global hooks of modules and optimizers, which PyTorch's functions add to and never look up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.modules import module as _modules

from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable

    Hooks = dict[int, Callable[..., Any]]

__all__ = [
    "ALWAYS_CALLED",
    "BACKWARD_HOOKS",
    "BACKWARD_PRE_HOOKS",
    "FORWARD_HOOKS",
    "FORWARD_PRE_HOOKS",
    "STEP_POST_HOOKS",
    "STEP_PRE_HOOKS",
    "WITH_KWARGS",
    "any_global_hook",
    "ask_for_global_hooks",
]

FORWARD_PRE_HOOKS: Hooks = need("nn.modules.module._global_forward_pre_hooks")
FORWARD_HOOKS: Hooks = need("nn.modules.module._global_forward_hooks")
ALWAYS_CALLED: dict[int, bool] = need("nn.modules.module._global_forward_hooks_always_called")
"""The keys of the forward hooks that are called after an exception, too."""
WITH_KWARGS: dict[int, bool] = need("nn.modules.module._global_forward_hooks_with_kwargs")  # since 2.6
"""The keys of the forward hooks that take keyword arguments."""
BACKWARD_PRE_HOOKS: Hooks = need("nn.modules.module._global_backward_pre_hooks")
BACKWARD_HOOKS: Hooks = need("nn.modules.module._global_backward_hooks")
STEP_PRE_HOOKS: Hooks = need("optim.optimizer._global_optimizer_pre_hooks")
STEP_POST_HOOKS: Hooks = need("optim.optimizer._global_optimizer_post_hooks")


def any_global_hook() -> Callable[[], bool]:
    """Return what dynamo asks whether modules have global hooks."""
    question: Callable[[], bool] = _modules._has_any_global_hook
    return question


def ask_for_global_hooks(answer: Callable[[], bool]) -> None:
    """Have dynamo ask another function."""
    _modules._has_any_global_hook = answer
