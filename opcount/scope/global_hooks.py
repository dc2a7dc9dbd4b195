"""Process-wide hooks of modules and optimizers: each has one key in all of PyTorch's tables, so that none is lost."""

from __future__ import annotations

import sys
from functools import partial, wraps
from itertools import count
from typing import TYPE_CHECKING, Any

from opcount._torch.hooks import (
    ALWAYS_CALLED,
    BACKWARD_HOOKS,
    BACKWARD_PRE_HOOKS,
    FORWARD_HOOKS,
    FORWARD_PRE_HOOKS,
    STEP_POST_HOOKS,
    STEP_PRE_HOOKS,
    UNHOOKED_STEPS,
    WITH_KWARGS,
    any_global_hook,
    ask_for_global_hooks,
    calls_step_hooks,
    taking_kwargs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount.undo import Undo

    Hook = Callable[..., Any]

_OF_MODULES: tuple[dict[int, Any], ...] = (
    FORWARD_PRE_HOOKS,
    FORWARD_HOOKS,
    BACKWARD_PRE_HOOKS,
    BACKWARD_HOOKS,
    ALWAYS_CALLED,
    WITH_KWARGS,
)
_TABLES: tuple[dict[int, Any], ...] = (
    FORWARD_PRE_HOOKS,
    FORWARD_HOOKS,
    STEP_PRE_HOOKS,
    STEP_POST_HOOKS,
    ALWAYS_CALLED,
    WITH_KWARGS,
)

_OURS: dict[Hook, int] = {}
"""The keys of the hooks that a counter registered."""

_keys = count(-1, -1)
"""PyTorch's own keys are not negative."""


def _key_of(hook: Hook) -> int:
    """Return the key of a hook, before it is registered."""
    return _OURS.setdefault(hook, next(_keys))


def before_module(hook: Hook) -> None:
    """Register ``hook(module, args)`` before every call of a module."""
    FORWARD_PRE_HOOKS[_key_of(hook)] = hook


def after_module(hook: Hook) -> None:
    """Register ``hook(module, args, kwargs, out)`` after every call of a module, without ``out`` if that raised."""
    key = _key_of(hook)
    ALWAYS_CALLED[key] = WITH_KWARGS[key] = True
    FORWARD_HOOKS[key] = taking_kwargs(hook)
    ask_for_global_hooks(has_hook_of_others)


def before_step(hook: Hook) -> None:
    """Register ``hook(optimizer, args, kwargs)`` before every step of an optimizer."""
    STEP_PRE_HOOKS[_key_of(hook)] = hook


def after_step(hook: Hook) -> None:
    """Register ``hook(optimizer, args, kwargs)`` after every step of an optimizer."""
    STEP_POST_HOOKS[_key_of(hook)] = hook


def _calling_hooks(step: Hook) -> Hook:
    """Patch a step around which PyTorch may call no hooks: those of counters are called then."""

    @wraps(step)
    def step_with_hooks(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if calls_step_hooks(sys._getframe(2)):
            return step(optimizer, *args, **kwargs)
        ours = set(_OURS.values())
        given: tuple[Any, Any] = (optimizer, *args), kwargs
        for hook in [hook for key, hook in STEP_PRE_HOOKS.items() if key in ours]:
            given = hook(optimizer, *given) or given
        out = step(*given[0], **given[1])
        for hook in [hook for key, hook in STEP_POST_HOOKS.items() if key in ours]:
            hook(optimizer, *given)
        return out

    return step_with_hooks


PATCHED_AROUND: dict[tuple[Any, str], Any] = {(holder, "step"): _calling_hooks for holder in UNHOOKED_STEPS}
"""Wrappers by holder and method, for the optimizers whose hooks PyTorch may have taken away."""


def is_registered(hook: Hook) -> bool:
    """Return whether a hook is registered."""
    return hook in _OURS


def remove(*hooks: Hook) -> None:
    """Remove the hooks that are registered."""
    for hook in hooks:
        key = _OURS.get(hook)
        if key is not None:
            for table in _TABLES:
                table.pop(key, None)
            _OURS.pop(hook, None)  # last: an interrupted removal is begun again
    if not _OURS and any_global_hook() is has_hook_of_others:
        ask_for_global_hooks(_BEFORE)


def suspend(undo: Undo) -> None:
    """Take the hooks of counters out of PyTorch's tables until the steps have run."""
    ours = set(_OURS.values())
    for table in _TABLES:
        taken = {key: value for key, value in table.items() if key in ours}
        undo.add(partial(table.update, taken))
        for key in taken:
            del table[key]


_BEFORE = any_global_hook()


def has_hook_of_others() -> bool:
    """Return whether modules have global hooks other than a counter's.

    It takes the place of what dynamo asks to warn that global hooks fire for a compiled module, too: ours are made
    for that. A filter for the warning would make Python forget which other warnings it has shown.
    """
    ours = set(_OURS.values())
    return any(key not in ours for hooks in _OF_MODULES for key in hooks)
