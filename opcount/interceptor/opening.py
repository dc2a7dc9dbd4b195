"""Looking inside operators: composite kernels, and operators that nothing explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._ops import OpOverload

    from opcount.interceptor.mode import Interceptor
    from opcount.interceptor.plan import Plan

_BACKENDS: DispatchKeySet = torch._C._dispatch_keyset_full_after(DispatchKey.Python)
"""The keys that a call still has to pass after a dispatch mode has seen it."""

_COMPOSITE = DispatchKey.CompositeImplicitAutograd


def is_composite(func: OpOverload) -> bool:
    """Tell whether the operator is written in terms of others, for devices without a kernel of their own."""
    return _has_kernel(func, _COMPOSITE.name)


def _has_kernel(func: OpOverload, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key))


def tensors(values: object) -> Iterator[Tensor]:
    """Yield the tensors among arguments, those in lists included."""
    for value in values:  # type: ignore[attr-defined]
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def _keys(args: tuple[Any, ...], kwargs: dict[str, Any]) -> DispatchKeySet:
    keys = DispatchKeySet(DispatchKey.Undefined)
    for tensor in tensors((*args, *kwargs.values())):
        keys = keys | torch._C._dispatch_keys(tensor)
    return keys & _BACKENDS


class Composite:
    """Runs the operator's composite kernel under the mode, so that inference_mode counts what no_grad does.

    ``func.decompose()`` would prefer Python decompositions, which change what runs.
    """

    def __init__(self, func: OpOverload, own: Plan) -> None:
        self._own = own
        self._func = func
        self._has_own: dict[str, bool] = {}

    def __call__(self, mode: Interceptor, _plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call."""
        key = _keys(args, kwargs).highestPriorityTypeId().name
        own = self._has_own.get(key)
        if own is None:
            own = self._has_own[key] = _has_kernel(self._func, key)
        if own:
            return mode.run(self._own, func, args, kwargs)
        with mode.reentered():
            return func._op_dk(_COMPOSITE, *args, **kwargs)


def open_up(mode: Interceptor, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator's own kernel once, under the mode: whatever it calls inside is priced.

    If nothing inside is, the operator is charged as uncounted. Under fake or meta tensors the kernel is only a
    shape function, so that is what it says there.
    """
    keys = _keys(args, kwargs)
    if not _can_be_opened(func, keys, args, kwargs):
        out = func(*args, **kwargs)
        mode.charge(plan, out, args, kwargs)
        return out
    with mode.reentered() as watch:
        out = func.redispatch(keys, *args, **kwargs)
    if not watch.priced:
        for counter in (mode, *_counters_below()):
            counter.charge(plan, out, args, kwargs)
    return out


def _counters_below() -> list[Interceptor]:
    """Return the counters around this one: they saw what the kernel called, and not the operator that was opened."""
    from opcount.interceptor.mode import Interceptor  # noqa: PLC0415  (mode imports this file)

    modes = map(torch._C._get_dispatch_stack_at, range(torch._C._len_torch_dispatch_stack()))
    return [mode for mode in modes if isinstance(mode, Interceptor)]


def _can_be_opened(func: OpOverload, keys: DispatchKeySet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    found = list(tensors((*args, *kwargs.values())))
    if not found or any(t.is_meta or type(t).__name__ == "FakeTensor" for t in found):
        return False
    return _takes(func, args) and _is_kernel_of(func, keys)


def _is_kernel_of(func: OpOverload, keys: DispatchKeySet) -> bool:
    """Tell whether a call with these keys ends in a kernel; custom operators have one for all backends at once."""
    name = func.name()
    return bool(
        torch._C._dispatch_has_kernel_for_any_dispatch_key(name, keys)
        or torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, keys.highestPriorityTypeId().name)
    )


def _takes(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Tell whether redispatch takes the arguments: it refuses Python numbers in place of tensors."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return not any(isinstance(value, (int, float, complex)) and "Tensor" in str(a.type) for a, value in pairs)
