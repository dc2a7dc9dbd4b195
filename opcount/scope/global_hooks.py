"""Process-wide hooks of modules and optimizers: each has one key in all of PyTorch's tables, so that none is lost."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = Callable[..., Any]
    Hooks = dict[int, Hook]

_ALWAYS_CALLED: dict[int, bool] = modules._global_forward_hooks_always_called
_WITH_KWARGS: dict[int, bool] = modules._global_forward_hooks_with_kwargs
_BEFORE_MODULES: Hooks = modules._global_forward_pre_hooks
_AFTER_MODULES: Hooks = modules._global_forward_hooks
_BEFORE_STEPS: Hooks = optimizers._global_optimizer_pre_hooks
_AFTER_STEPS: Hooks = optimizers._global_optimizer_post_hooks
_OF_MODULES: tuple[dict[int, Any], ...] = (
    _BEFORE_MODULES,
    _AFTER_MODULES,
    modules._global_backward_pre_hooks,
    modules._global_backward_hooks,
    _ALWAYS_CALLED,
    _WITH_KWARGS,
)
_TABLES: tuple[dict[int, Any], ...] = (
    _BEFORE_MODULES,
    _AFTER_MODULES,
    _BEFORE_STEPS,
    _AFTER_STEPS,
    _ALWAYS_CALLED,
    _WITH_KWARGS,
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
    _BEFORE_MODULES[_key_of(hook)] = hook


def after_module(hook: Hook) -> None:
    """Register ``hook(module, args, kwargs, out)`` after every call of a module, without ``out`` if that raised."""
    key = _key_of(hook)
    _ALWAYS_CALLED[key] = _WITH_KWARGS[key] = True
    _AFTER_MODULES[key] = hook
    modules._has_any_global_hook = has_hook_of_others


def before_step(hook: Hook) -> None:
    """Register ``hook(optimizer, args, kwargs)`` before every step of an optimizer."""
    _BEFORE_STEPS[_key_of(hook)] = hook


def after_step(hook: Hook) -> None:
    """Register ``hook(optimizer, args, kwargs)`` after every step of an optimizer."""
    _AFTER_STEPS[_key_of(hook)] = hook


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
    if not _OURS and modules._has_any_global_hook is has_hook_of_others:
        modules._has_any_global_hook = _BEFORE


_BEFORE = modules._has_any_global_hook


def has_hook_of_others() -> bool:
    """Return whether modules have global hooks other than a counter's.

    It takes the place of what dynamo asks to warn that global hooks fire for a compiled module, too: ours are made
    for that. A filter for the warning would make Python forget which other warnings it has shown.
    """
    ours = set(_OURS.values())
    return any(key not in ours for hooks in _OF_MODULES for key in hooks)
