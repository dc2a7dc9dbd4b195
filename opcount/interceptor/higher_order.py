"""Higher-order operators: their bodies run under the counter, or they are reported."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule

from opcount._torch.dispatch import DispatchKey
from opcount._torch.slow import triton_kernels
from opcount.coverage import UNCOUNTED
from opcount.interceptor.calls import is_fake, tensors
from opcount.interceptor.opening import charge_opaque, charge_unopened
from opcount.interceptor.plan import Plan, handler
from opcount.interceptor.stack import dry_runs, interceptors, modes_below
from opcount.scope.global_hooks import has_hook_of_others

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount._torch.dispatch import HigherOrderOperator
    from opcount.interceptor.plan import Mode

_DENSE = DispatchKey.CompositeExplicitAutograd

_RUNNERS = {"run_and_save_rng_state", "run_with_rng_state", "graphsafe_run_with_rng_state"}
"""Operators without a dense kernel that call an operator which they are given, and nothing else."""


_DECIDERS = {"cond", "while_loop", "while_loop_stack_output"}
"""Operators whose course depends on the values of tensors."""

_COMPILED = {*_DECIDERS, "scan", "map_impl", "associative_scan"}
"""Operators that compile themselves where a program calls them: a module inside a body then runs no hooks."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_LAUNCHERS = {"triton_kernel_wrapper_mutation", "triton_kernel_wrapper_functional"}


def _refuses_modes(kernel: Any) -> bool:
    """Return whether a kernel asserts that no mode is active: that of ``cond``, ``scan`` and some others does."""
    return "_get_current_dispatch_mode" in getattr(getattr(kernel, "__code__", None), "co_names", ())


@handler
def _kernel(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the dense kernel under the mode; nothing inside means that nothing was computed, or nothing is known."""
    if func.name() in _DECIDERS and _has_no_values(func, args):
        return _undecided(mode, plan, func, args, kwargs)
    kernel = func.py_kernels[_DENSE]
    with mode.looking_into(args, kwargs, lenient=True) as watching:
        with mode.noting() as inside, _without_modules(mode, func):
            out = kernel(*map(_unhooked, args), **{name: _unhooked(value) for name, value in kwargs.items()})
        if not inside.priced:
            charge_unopened(mode, plan, func, out, args, kwargs)
        elif watching.finds_opaque(out):
            charge_opaque(mode, plan.operator, out, args, kwargs)
    return out


@handler
def _bodies_of_kernel(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the dense kernel without any mode, and the functions that it is given under this one.

    A mode below gets the operator, with functions that run under this mode as well: another counter does the same.
    """
    kernel = func.py_kernels[_DENSE]
    if _has_no_values(func, args):
        if func.name() in _DECIDERS:
            return _undecided(mode, plan, func, args, kwargs)
        if func.name() == "scan" and not interceptors():
            return _run_bodies(mode, plan, func, partial(_scan, kernel), args, kwargs)
    return _run_bodies(mode, plan, func, func if modes_below() else kernel, args, kwargs)


def _scan(kernel: Any, combine_fn: Any, init: Any, xs: Any, *options: Any) -> Any:
    """Run what the kernel of ``scan`` runs once no mode is active: a fake tensor mode would run the body once.

    From 2.7 on the options are the additional inputs alone.
    """
    run = kernel.__globals__["generic_scan"]
    if len(options) > 1:
        return run(combine_fn, init, xs, *options)
    return run(combine_fn, init, xs, additional_inputs=options[0] if options else ())


def _has_no_values(func: Any, args: tuple[Any, ...]) -> bool:
    """Return whether fake tensors decide, which PyTorch answers without running a body as it would be run."""
    deciding = args[:1] if func.name() == "cond" else args
    return any(is_fake(type(tensor)) for tensor in tensors(deciding))


@handler
def _bodies(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator, and the functions that it is given under the mode."""
    return _run_bodies(mode, plan, func, func, args, kwargs)


def _run_bodies(mode: Mode, plan: Plan, func: Any, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    ran: list[object] = []
    seen_args = (_seen(value, mode, ran) for value in args)
    seen_kwargs = {name: _seen(value, mode, ran) for name, value in kwargs.items()}
    with _without_modules(mode, func):
        out = run(*seen_args, **seen_kwargs)
    if not ran:
        mode.charge(plan, out, args, kwargs)
    return out


@contextmanager
def _without_modules(mode: Mode, func: Any) -> Iterator[None]:
    """Charge what bodies run to the module that runs now, in a dry run as where the operator was compiled."""
    scopes = [each.scope for each in (mode, *interceptors())] if func.name() in _COMPILED else ()
    observing = [scope for scope in scopes if scope.observing]
    try:
        for scope in observing:
            scope.observing = False
        yield
    finally:
        for scope in observing:
            scope.observing = True


def _seen(body: Any, mode: Mode, ran: list[object]) -> Any:
    """Return a function that runs a body under the mode, and notes that it ran; anything else as it is."""
    if not callable(body) or isinstance(body, torch.Tensor):
        return body

    call = _unhooked(body)

    @wraps(body, assigned=(), updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        ran.append(body)
        with mode.reentered():
            return call(*args, **kwargs)

    return run


def _unhooked(body: Any) -> Any:
    """Return what a graph runs that PyTorch made of a body: it is no module of the program, nor a rerun of forward."""
    if isinstance(body, GraphModule) and not any(getattr(body, name) for name in _HOOKS) and not has_hook_of_others():
        return body.forward
    return body


def _undecided(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count the course that a dry run takes by the values that it knows; name the operator where nobody decides."""
    if dry_runs():
        return _run_bodies(mode, plan, func, func, args, kwargs)
    return _report(mode, plan, func, args, kwargs)


def _report(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator unseen, and name it."""
    out = func(*args, **kwargs)
    mode.charge(plan, out, args, kwargs)
    return out


@handler
def _triton(mode: Mode, _plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Launch a Triton kernel, and charge it by the formula of that kernel."""
    kernels = triton_kernels()
    out = func(*args, **kwargs)
    kernel = kernels.get_kernel(kwargs["kernel_idx"])
    constants = kernels.get_constant_args(kwargs["constant_args_idx"])
    mode.charge(mode.kernel_plan(kernel), out, (), {**constants, **kwargs["kwargs"]})
    return out


def plan(func: HigherOrderOperator, name: str) -> Plan:
    """Decide how to count a higher-order operator for which there is no formula."""
    if func.name() in _LAUNCHERS:
        return Plan(name, UNCOUNTED, handle=_triton)
    kernel = func.py_kernels.get(_DENSE)
    if kernel is None:
        return Plan(name, UNCOUNTED, handle=_bodies if func.name() in _RUNNERS else None)
    return Plan(name, UNCOUNTED, handle=_bodies_of_kernel if _refuses_modes(kernel) else _kernel)
