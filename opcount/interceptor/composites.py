"""Composite operators with a formula of the user's, such as ``aten.linear``: seen whole in every grad mode.

PyTorch takes a composite operator apart before a dispatch mode sees it, except under inference_mode. While a count has
a formula for one, a kernel of ours stands at the ``PreDispatch`` key, above autocast, autograd and ``torch.func``. It
runs the operator as PyTorch does, charges it by the formula, and hides its parts from that count; the backward of the
parts is counted as ever. A dry run may have it run another way, as PyTorch does on another device.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, partial
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount._torch.dispatch import (
    CAN_REDISPATCH,
    DispatchKey,
    DispatchKeySet,
    OpOverloadPacket,
    destroy_library,
    excluded_keys,
    has_kernel,
    is_fallthrough,
    is_included,
    is_registered,
    keys_after,
    set_excluded,
    set_included,
)
from opcount._torch.functorch import in_transform, is_batched, is_wrapped, unwrapped
from opcount.errors import FormulaError
from opcount.interceptor.calls import tensors
from opcount.interceptor.stack import interceptors
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from opcount._torch.dispatch import OpOverload
    from opcount.interceptor.plan import Mode

    Way = Callable[..., Any]

_PRE_DISPATCH = DispatchKey.PreDispatch
_BELOW: DispatchKeySet = keys_after(_PRE_DISPATCH)
_AUTOCASTS = [key for name, key in DispatchKey.__members__.items() if name.startswith("Autocast")]


def is_composite(func: OpOverload) -> bool:
    """Return whether the operator is written in terms of others, for devices without a kernel of their own."""
    return bool(has_kernel(func.name(), "CompositeImplicitAutograd"))


def composites_among(targets: Iterable[object]) -> list[OpOverload]:
    """Return the composite overloads that formulas for some targets are found for; targets may not exist."""
    found = {}
    for target in targets:
        if isinstance(target, str):
            found.update({func.name(): func for func in _overloads(target) if is_composite(func)})
    return list(found.values())


def _overloads(name: str) -> Iterator[OpOverload]:
    """Yield the overloads that a name stands for, those that work in place included."""
    namespace, packet_name, *overload = name.split(".", 2)
    for each in (packet_name, f"{packet_name}_"):
        packet = getattr(getattr(torch.ops, namespace), each, None)
        if isinstance(packet, OpOverloadPacket):
            for known in overload or packet.overloads():
                func = getattr(packet, known, None)
                if func is not None and is_registered(func.name()):  # others are TorchScript's own
                    yield func


class _User(NamedTuple):
    """One thread of a count, or of a dry run that runs composite operators another way."""

    thread: int
    funcs: Collection[OpOverload]
    ways: Mapping[OpOverload, Way]


_USERS: dict[Undo, _User] = {}
_KERNELS: dict[str, torch.library.Library] = {}
_LOCK = RLock()  # reentrant: the collector may end another block while it is held


def see_composites(funcs: Sequence[OpOverload], undo: Undo) -> None:
    """Let the interceptors of this thread charge composite operators whole, until the steps have run."""
    if not funcs:
        return
    if not CAN_REDISPATCH:
        raise FormulaError(
            f"formula: {funcs[0]}: expected PyTorch 2.4 or newer, which shows this composite operator whole, got "
            f"{torch.__version__}. Price the operators that it is made of, as by_operator() shows them, or the "
            f"nn.Module class that calls it."
        )
    _use(_User(get_ident(), funcs, {}), undo)


def run_composites(ways: Mapping[OpOverload, Way], undo: Undo) -> None:
    """Run composite operators of this thread another way, until the steps have run.

    Args:
        ways: Functions by operator, which take what runs it as PyTorch does on this device, and its arguments.
        undo: The steps.
    """
    if ways:
        _use(_User(get_ident(), ways.keys(), ways), undo)


def _use(user: _User, undo: Undo) -> None:
    undo.add(partial(_stop, undo))
    with _LOCK:
        _USERS[undo] = user
        _install()


def _stop(undo: Undo) -> None:
    with _LOCK:
        _USERS.pop(undo, None)
        _install()


def _install() -> None:
    """Have the kernels, and on this thread the key that leads to them, where somebody uses them."""
    funcs = {func.name(): func for user in _USERS.values() for func in user.funcs}
    for name in _KERNELS.keys() - funcs.keys():
        destroy_library(_KERNELS[name])
        del _KERNELS[name]
    for name in funcs.keys() - _KERNELS.keys():
        library = _KERNELS[name] = torch.library.Library(funcs[name].namespace, "IMPL")
        library.impl(funcs[name], partial(_run, funcs[name]), _PRE_DISPATCH.name, with_keyset=True)
    here = bool(_here())
    if is_included(_PRE_DISPATCH) != here:
        set_included(_PRE_DISPATCH, here)


def _here() -> list[_User]:
    return [user for user in list(_USERS.values()) if user.thread == get_ident()]


@contextmanager
def composites_asked() -> Iterator[None]:
    """Ask for composite operators that a mode's handler calls, too."""
    was_excluded = excluded_keys().has(_PRE_DISPATCH)
    set_excluded(_PRE_DISPATCH, False)  # noqa: FBT003
    try:
        yield
    finally:
        set_excluded(_PRE_DISPATCH, was_excluded)


def _run(func: OpOverload, keys: DispatchKeySet, /, *args: Any, **kwargs: Any) -> Any:
    """Run a composite operator; charge it where there is a formula for it."""
    run: Callable[..., Any] = partial(func.redispatch, keys & _BELOW)
    if _comes_again(func, keys):
        return run(*args, **kwargs)
    way = next((user.ways[func] for user in _here() if func in user.ways), None)
    if way is not None and not any(map(is_wrapped, tensors((*args, *kwargs.values())))):
        run = partial(way, run)
    asking = [mode for mode in interceptors() if mode.asks(func, args, kwargs)]
    if not asking:
        return run(*args, **kwargs)
    _refuse_batches(func, args, kwargs)
    with _hidden_from(asking):
        out = run(*args, **kwargs)
    for mode in asking:
        plan = mode.composite_plan(func)
        if plan is not None:
            mode.charge(plan, out, args, kwargs)
    return out


def _comes_again(func: OpOverload, keys: DispatchKeySet) -> bool:
    """Return whether autocast calls the operator once more, on the operands that it computes with.

    Under a transform of ``torch.func`` that call is not seen.
    """
    return not in_transform() and any(keys.has(key) for key in _autocast_kernels(func))


@cache
def _autocast_kernels(func: OpOverload) -> list[DispatchKey]:
    return [
        key for key in _AUTOCASTS if has_kernel(func.name(), key.name) and not is_fallthrough(func.name(), key.name)
    ]


def _refuse_batches(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if any(map(_is_batched, tensors((*args, *kwargs.values())))):
        raise FormulaError(
            f"formula: {func}: expected operands without a hidden dimension, got a call inside torch.vmap, where its "
            f"formula would see one example for all. Price the operators that it is made of, as by_operator() shows "
            f"them, or the nn.Module class that calls it."
        )


def _is_batched(tensor: Any) -> bool:
    while is_wrapped(tensor):
        if is_batched(tensor):
            return True
        tensor = unwrapped(tensor)
    return False


@contextmanager
def _hidden_from(modes: Sequence[Mode]) -> Iterator[None]:
    """Charge nothing to some counters while the block runs."""
    with Undo() as undo:
        for mode in modes:
            undo.add(mode.look_away())
        yield
