"""Plans of a paused counter, which charges nothing: operators run as they do without it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import OpOverload
from opcount.coverage import FREE
from opcount.interceptor.composites import is_composite
from opcount.interceptor.fast_paths import handler_of
from opcount.interceptor.opening import CALLING_PRODUCTS, run_unseen
from opcount.interceptor.plan import Plan, Unseen
from opcount.interceptor.stack import modes_below

if TYPE_CHECKING:
    from opcount.interceptor.plan import Mode


class _Paused(Unseen):
    """Runs operators unseen whose kernels call others, which a dispatch mode would change; passes the rest on.

    Where other modes wait to see an operator, it is passed on to them.
    """

    def __call__(self, _: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del plan
        if modes_below() or not _calls_others(func, whole=torch.is_inference_mode_enabled()):
            return func(*args, **kwargs)
        return run_unseen(func, args, kwargs)[0]


@cache
def _calls_others(func: Any, *, whole: bool) -> bool:
    """Return whether the kernel may call other operators, as composite ones do where they arrive ``whole``."""
    if not isinstance(func, OpOverload):
        return False
    name = str(func)
    known = name.rpartition(".")[0] in CALLING_PRODUCTS or handler_of(name) is not None
    return known or func.namespace != "aten" or (whole and is_composite(func))


class PassThrough(dict[Any, Plan]):
    """Plans of a paused counter."""

    def __missing__(self, _key: Any) -> Plan:
        """Return the plan that charges nothing, for every operator."""
        return _PASS


_PASS = Plan("", FREE, handle=_Paused())
