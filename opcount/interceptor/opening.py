"""Looking inside operators: composite kernels, and operators that nothing explains."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import (
    BELOW_MODES,
    CAN_REDISPATCH,
    WRITES_HIDE_VIEWS,
    DispatchKey,
    DispatchKeySet,
    below_autograd,
    dispatch_disabled,
    dump_kernels,
    excluded_keys,
    has_computed_kernel,
    has_kernel,
    keys_of,
    run_kernel,
    state_before_modes,
    without_keys,
)
from opcount._torch.functorch import in_transform
from opcount._torch.names import FAKE_TENSORS
from opcount.interceptor.calls import is_fake, mutated, takes, tensors
from opcount.interceptor.plan import handler, unpriced
from opcount.interceptor.stack import interceptors, modes_below
from opcount.interceptor.symbolic import decompose_symbolically, has_symbolic_sizes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.operator_steps import OperatorSteps
    from opcount.interceptor.plan import Mode, Plan


def _autograd_keys() -> DispatchKeySet:
    before = excluded_keys()
    with below_autograd():
        return excluded_keys() - before


"""The keys that a call still has to pass after a dispatch mode has seen it."""

_COMPOSITE = DispatchKey.CompositeImplicitAutograd
_COMPOSITE_NESTED = DispatchKey.CompositeImplicitAutogradNestedTensor
_AUTOCASTS = [key for name, key in DispatchKey.__members__.items() if name.startswith("Autocast")]
_NO_KEYS = DispatchKeySet(DispatchKey.Undefined)
_AUTOGRAD = _autograd_keys()
_NESTED_AUTOGRAD = ("Autograd", "AutogradNestedTensor")
_AUTOGRAD_AND_VIEWS = _AUTOGRAD.add(DispatchKey.ADInplaceOrView)
_NOTHING = nullcontext()

CALLING_PRODUCTS = {"aten._trilinear", "aten._sparse_addmm", "aten.linalg_matrix_exp"}  # nn.Bilinear, torch.sparse.mm
"""Operators of PyTorch whose kernels call products through the dispatcher, without being composite.

``linalg_pinv`` is left out: ``pinverse`` keeps autocast from it, and calls cannot be told apart.
"""


def _has_kernel(func: OpOverload, key: DispatchKey) -> bool:
    return bool(has_kernel(func.name(), _name(key)))


@cache
def _name(key: DispatchKey) -> str:
    """Return a key's name; Python has none for some, MkldnnCPU among them, and shows them in sets only."""
    return key.name if key.name != "???" else repr(DispatchKeySet(key))[len("DispatchKeySet(") : -1]


def _keys(args: tuple[Any, ...], kwargs: dict[str, Any]) -> DispatchKeySet:
    keys = _NO_KEYS
    for tensor in tensors((*args, *kwargs.values()) if kwargs else args):
        keys = keys | keys_of(tensor)
    return keys & BELOW_MODES


class Composite:
    """Runs the operator's composite kernel under the mode, so that inference_mode counts what no_grad does.

    ``func.decompose()`` would prefer Python decompositions, which change what runs.

    Args:
        func: The operator.
        whole: How it is priced on a device that has a kernel of its own for it.
    """

    def __init__(self, func: OpOverload, whole: Plan) -> None:
        self._whole = whole
        self._func = func
        self._kernels: dict[DispatchKey, DispatchKey | None] = {}
        self._is_view = _has_kernel(func, DispatchKey.ADInplaceOrView)
        self._differentiated: set[DispatchKey] = set()
        self._own_autocast = _own_autocast(func)
        self._passed = self._own_autocast | _AUTOGRAD_AND_VIEWS

    def __call__(self, mode: Mode, _plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call."""
        key = _keys(args, kwargs).highestPriorityTypeId()
        if key not in self._kernels:
            self._kernels[key] = self._kernel_for(key)
            if key.name.startswith("NestedTensor") and any(has_kernel(func.name(), name) for name in _NESTED_AUTOGRAD):
                self._differentiated.add(key)
        kernel = self._kernels[key]
        if kernel is None or not all(map(_is_transparent, map(type, modes_below()))):
            return mode.run(self._whole, func, args, kwargs)
        if mode.sees_fakes and has_symbolic_sizes((*args, *kwargs.values())):
            with mode.reentered():
                return decompose_symbolically(func, args, kwargs)
        if in_transform():
            return mode.run_under(run_kernel, func, kernel, args, kwargs)
        with state_before_modes(), without_keys(self._hidden(mode, key)):
            return mode.run_under(run_kernel, func, kernel, args, kwargs)

    def plan_of_finished(self, _plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """Return the plan that charges a call as a whole."""
        return self._whole.of_finished(out, args, kwargs)

    def _hidden(self, mode: Mode, backend: DispatchKey) -> DispatchKeySet:
        """Return the keys that the operator has passed: with a kernel of its own for one, what it calls passes none.

        Its own autocast is among them. For the rest, whoever called it has switched autograd off, and views are still
        tracked: whether a weight's view requires a gradient decides how ``matmul`` computes, under inference_mode too.
        A tensor subclass calls with all of them passed.
        """
        if (
            mode.in_subclass
            or self._is_view
            or (backend in self._differentiated and not torch.is_inference_mode_enabled())
        ):
            return self._passed
        return self._own_autocast

    def _kernel_for(self, key: DispatchKey) -> DispatchKey | None:
        """Return the composite kernel for a backend; None where the backend has a kernel of its own."""
        if _has_kernel(self._func, key):
            return None
        if key.name.startswith("NestedTensor") and _has_kernel(self._func, _COMPOSITE_NESTED):
            return _COMPOSITE_NESTED
        return _COMPOSITE


@handler
def open_up(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator's own kernel once, under the mode: whatever it calls inside is priced.

    If nothing inside is, the operator is charged by the plan; so it is under fake or meta tensors, where the kernel
    is only a shape function.
    """
    keys = _keys(args, kwargs)
    if not (CAN_REDISPATCH and _can_be_opened(func, keys, args, kwargs)):
        out = func(*args, **kwargs)
        mode.charge(plan, out, args, kwargs)
        return out
    with mode.looking_into(args, kwargs) as watching:
        with before_modes(), switched_off(func, _passed(func)), mode.noting() as inside:
            out = func.redispatch(keys, *args, **kwargs)
        if not inside.priced:
            charge_unopened(mode, plan, func, out, args, kwargs)
        elif watching.finds_opaque(out, mutated(func, args, kwargs)):
            charge_opaque(mode, plan.operator, out, args, kwargs)
    return out


def charge_opaque(mode: Mode, operator: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Name an operator of which something was seen, but not what made its results; in the counters around it too."""
    for counter in (mode, *interceptors()):
        counter.charge(unpriced(operator), out, args, kwargs)


def run_unseen(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Run the operator's own kernel once, under no mode, as it runs without us.

    Returns:
        What the operator returned, and the interceptors below, which have not seen it; where somebody else waits to
        see the operator, none, for it has been passed on.
    """
    keys = _keys(args, kwargs)
    if not _can_be_opened(func, keys, args, kwargs):
        return func(*args, **kwargs), []
    run = partial(func.redispatch, keys) if CAN_REDISPATCH else func  # with the keys above it off, it comes to the same
    with before_modes(), switched_off(func, _passed(func)), dispatch_disabled():
        return run(*args, **kwargs), modes_below()


def charge_as_steps(
    mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], steps: OperatorSteps
) -> Any:
    """Run an operator as it runs without us, and charge the steps that it stands for."""
    out, unaware = run_unseen(func, args, kwargs)
    for counter in (mode, *unaware):
        if counter.counts_steps:
            counter.charge_steps(steps)
            counter.see(plan, out, args, kwargs)
            counter.note(plan, out, args, kwargs)
        else:
            counter.charge_finished(func, out, args, kwargs)
    return out


@handler
def run_with_autocast(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator whose kernel calls others, to which autocast applies; a dispatch mode would keep it from them."""
    out, unaware = run_unseen(func, args, kwargs)
    mode.charge(plan, out, args, kwargs)
    for other in unaware:
        other.charge_finished(func, out, args, kwargs)
    return out


def charge_unopened(mode: Mode, plan: Plan, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge an operator in which nothing was seen, in the counters around this one too: they saw no more."""
    mode.charge(plan, out, args, kwargs)
    for other in interceptors():
        other.charge_finished(func, out, args, kwargs)


def can_run_unseen(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether nobody else is to see an operator that runs under no mode."""
    return _can_be_opened(func, _keys(args, kwargs), args, kwargs)


def _can_be_opened(func: OpOverload, keys: DispatchKeySet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if any(t.is_meta or is_fake(type(t)) for t in tensors((*args, *kwargs.values()))):
        return False
    key = _name(keys.highestPriorityTypeId())
    known = has_computed_kernel(func.name(), key)
    return bool(known) and takes(func, args, kwargs) and _is_last_mode()


def _is_last_mode() -> bool:
    """Return whether nobody else waits to see the operator itself: a tracer, a fake tensor mode, ..."""
    return all(getattr(mode, "is_interceptor", False) for mode in modes_below())


@lru_cache(64)
def _is_transparent(kind: type) -> bool:
    """Return whether modes of a class do with a composite operator what they do with its parts.

    Counters and fake tensors do. Anybody else's mode is to see the operator that it would see without us.
    """
    return kind.__module__.startswith(("opcount.", FAKE_TENSORS))


def _passed(func: OpOverload) -> DispatchKeySet:
    """Return the keys that are off when a backend's kernel is reached: under inference_mode no autograd is passed."""
    if not torch.is_inference_mode_enabled():
        return _off_below_autograd(func)
    return _AUTOGRAD_AND_VIEWS if _has_kernel(func, DispatchKey.ADInplaceOrView) else _NO_KEYS


@cache
def _off_below_autograd(func: OpOverload) -> DispatchKeySet:
    """Return what an autograd kernel switches off: PyTorch's own also switch off the tracking of views."""
    kernels = dump_kernels(func.name())
    if "\nAutograd" not in kernels:
        return _NO_KEYS
    hides_views = "VariableType" in kernels or (WRITES_HIDE_VIEWS and "\nADInplaceOrView" in kernels)
    return _AUTOGRAD_AND_VIEWS if hides_views else _AUTOGRAD


@cache
def _own_autocast(func: OpOverload) -> DispatchKeySet:
    """Return the operator's autocast kernels: they call the next with autocast switched off."""
    keys = _NO_KEYS
    for key in _AUTOCASTS:
        if _has_kernel(func, key):
            keys = keys.add(key)
    return keys


# A kernel gets the autocast and autograd that it finds without any dispatch mode. PyTorch calls a mode with both
# switched off: a kernel that relies on one of them (``einsum`` under autocast; an operator without an autograd kernel,
# whose parts autograd then sees) would compute something else than it does without us. functorch's layers keep dispatch
# state of their own, which stays as it is. Both context managers are entered and left in C++, where no interrupt comes
# between: state that is put back late ends the process.


def before_modes() -> AbstractContextManager[object]:
    """Give a kernel the dispatch state from before the mode was called."""
    return _NOTHING if in_transform() else state_before_modes()


def switched_off(func: OpOverload, hidden: DispatchKeySet) -> AbstractContextManager[object]:
    """Switch off keys that are off when an operator's kernel is reached: its own autocast, and those given."""
    return _NOTHING if in_transform() else without_keys(_own_autocast(func) | hidden)
