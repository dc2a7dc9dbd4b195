"""Methods that change modules, learning rate schedulers and gradient scalers."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim import lr_scheduler

from opcount._torch.modules import named_member_accessor
from opcount._torch.tracing import SAVERS
from opcount.dryrun.guard import Guard, active_guard, ask_before
from opcount.dryrun.guard_reads import READ_PATCHES
from opcount.dryrun.guard_tensors import TENSOR_PATCHES
from opcount.identity import identity
from opcount.interceptor.patches import Patches
from opcount.interceptor.stack import dry_runs

try:
    from torch.amp import grad_scaler
except ImportError:  # before 2.3
    from torch.cuda.amp import grad_scaler  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable


def _remember(guard: Guard, module: nn.Module, *_args: object, **_kwargs: object) -> None:
    guard.module(module)


def _remember_argument(guard: Guard, *args: object, **kwargs: object) -> None:
    """Remember the first module among the arguments."""
    module = next((value for value in (*args, *kwargs.values()) if isinstance(value, nn.Module)), None)
    if module is not None:
        guard.module(module)


def _remember_as_new(guard: Guard, module: nn.Module, *_args: object, **_kwargs: object) -> None:
    guard.born[identity(module)] = weakref.ref(module)


def _tracing(guard: Guard, *_args: object) -> None:
    """Refuse to trace operators that a dry run answers before the trace sees them."""
    if dry_runs():
        raise guard.refusals.refuse("make_fx", "traces operators, and a dry run answers many without running them")


def _saving(guard: Guard, *_args: object, **_kwargs: object) -> None:
    """Refuse what has C++ read the memory of parameters and of constants in graphs."""
    raise guard.refusals.refuse("torch.jit.save", "reads tensors, which have no values in a dry run")


def _remember_object(guard: Guard, value: object, *_args: object, **_kwargs: object) -> None:
    guard.snapshot.note([value])


def _applying(original: Any) -> Any:
    """Patch ``Module._apply``, which casts and moves parameters and buffers."""

    @functools.wraps(original)
    def apply(module: nn.Module, fn: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.module(module)
            if not isinstance(fn, _Applied):
                fn = _Applied(guard, fn)
        return original(module, fn, *args, **kwargs)

    return apply


class _Applied(NamedTuple):
    """Function for ``Module._apply`` in a dry run."""

    guard: Guard
    fn: Callable[[Tensor], Tensor]

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.guard.applied(tensor, self.fn(tensor))


_CHANGE_MODULES = (
    "__setattr__", "__delattr__", "add_module", "register_buffer", "register_parameter",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_backward_hook", "__setstate__",
)  # fmt: skip
"""Methods that change the module itself, and call none of the others."""

_HOOKS: tuple[Any, ...] = (prune.BasePruningMethod, WeightNorm, SpectralNorm)
"""Classes that take parameters out of a module's tables without a method of the module."""

_STEPS = ("step", "update", "scale", "unscale_")
"""Methods by which schedulers and gradient scalers change their own state."""

_TRAINERS = [
    value
    for module in (lr_scheduler, grad_scaler)
    for value in vars(module).values()
    if isinstance(value, type) and value.__module__ == module.__name__
]

GUARDED = Patches(
    {**TENSOR_PATCHES, **READ_PATCHES},
    around={
        (nn.Module, "__init__"): ask_before(_remember_as_new),
        (nn.Module, "_apply"): _applying,
        **{(nn.Module, name): ask_before(_remember) for name in _CHANGE_MODULES},
        (ProxyTorchDispatchMode, "__enter__"): ask_before(_tracing),
        **dict.fromkeys(SAVERS, ask_before(_saving)),
        **{(hook, name): ask_before(_remember_argument) for hook in _HOOKS for name in ("apply", "remove")},
        **{(named_member_accessor, name): ask_before(_remember_argument) for name in ("swap_tensor", "set_tensor")},
        **{(kind, name): ask_before(_remember_object) for kind in _TRAINERS for name in _STEPS if name in vars(kind)},
    },
)
"""Patches of all three files; in place while any thread is in a dry run."""
