"""Process-wide hooks of modules and optimizers: found again by what they call, so that no handle can be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

if TYPE_CHECKING:
    from collections.abc import Callable

    Hooks = dict[int, Callable[..., Any]]

_FLAGS = (modules._global_forward_hooks_always_called, modules._global_forward_hooks_with_kwargs)
_OF_MODULES: tuple[dict[int, Any], ...] = (
    modules._global_forward_pre_hooks,
    modules._global_forward_hooks,
    modules._global_backward_pre_hooks,
    modules._global_backward_hooks,
    *_FLAGS,
)
_PLACES: tuple[Hooks, ...] = (
    modules._global_forward_pre_hooks,
    modules._global_forward_hooks,
    optimizers._global_optimizer_pre_hooks,
    optimizers._global_optimizer_post_hooks,
)

_OURS: set[int] = set()
"""The keys of the hooks that a counter registered."""


def before_module(hook: Callable[..., Any]) -> None:
    """Register ``hook(module, args)`` before every call of a module."""
    _OURS.add(modules.register_module_forward_pre_hook(hook).id)


def after_module(hook: Callable[..., Any]) -> None:
    """Register ``hook(module, args, kwargs, out)`` after every call of a module, without ``out`` if that raised."""
    if not is_registered(hook):
        _OURS.add(modules.register_module_forward_hook(hook, with_kwargs=True, always_call=True).id)
    modules._has_any_global_hook = has_hook_of_others


def before_step(hook: Callable[..., Any]) -> None:
    """Register ``hook(optimizer, args, kwargs)`` before every step of an optimizer."""
    optimizers.register_optimizer_step_pre_hook(hook)


def after_step(hook: Callable[..., Any]) -> None:
    """Register ``hook(optimizer, args, kwargs)`` after every step of an optimizer."""
    optimizers.register_optimizer_step_post_hook(hook)


def is_registered(hook: Callable[..., Any]) -> bool:
    """Tell whether a hook is registered."""
    return any(hook in list(place.values()) for place in _PLACES)


def remove(*hooks: Callable[..., Any]) -> None:
    """Remove the hooks that are registered."""
    for place in _PLACES:
        for key in [key for key, hook in list(place.items()) if hook in hooks]:
            _OURS.discard(key)
            for flags in _FLAGS:
                flags.pop(key, None)
            place.pop(key, None)  # last: by the hook the rest is found again
    if not _OURS and modules._has_any_global_hook is has_hook_of_others:
        modules._has_any_global_hook = _BEFORE


_BEFORE = modules._has_any_global_hook


def has_hook_of_others() -> bool:
    """Tell whether modules have global hooks other than a counter's.

    It takes the place of what dynamo asks to warn that global hooks fire for a compiled module, too: ours are made
    for that. A filter for the warning would make Python forget which other warnings it has shown.
    """
    return any(key not in _OURS for hooks in _OF_MODULES for key in hooks)
