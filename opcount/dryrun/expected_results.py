"""Results that a run without errors has: numbers are finite, and matrices can be factorized.

Programs check both, and a dry run, which has no values, takes the checks to pass.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Wrap = Callable[[Tensor, torch.device], Any]

_aten = torch.ops.aten

_FINITE_ANSWERS: dict[Any, Callable[..., bool | None]] = {
    _aten.isnan.default: lambda _: False,
    _aten.isinf.default: lambda _: False,
    _aten.isposinf.default: lambda _: False,
    _aten.isneginf.default: lambda _: False,
    _aten.eq.Tensor: lambda a, b: True if a is b else None,
    _aten.ne.Tensor: lambda a, b: False if a is b else None,
    _aten.eq.Scalar: lambda _, b: False if b in (inf, -inf) else None,
    _aten.ne.Scalar: lambda _, b: True if b in (inf, -inf) else None,
}
"""Results of checks for finite numbers, by operator; None if the arguments make it another question."""

FINITE_CHECKS = frozenset(_FINITE_ANSWERS)


def as_finite(wrap: Wrap, func: Any, args: tuple[Any, ...]) -> Any:
    """Return what a check for a finite number returns if a single number is finite, else `UNKNOWN`."""
    number = args[0]
    if not isinstance(number, Tensor) or number.numel() != 1 or not number.dtype.is_floating_point:
        return UNKNOWN
    answer = _FINITE_ANSWERS[func](*args)
    if answer is None:
        return UNKNOWN
    with dispatch_disabled(), autograd_disabled():
        known = torch.full(number.shape, answer, device="cpu")
    return wrap(known, number.device)


def as_factorized(wrap: Wrap, info: int, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the results of a factorization, with zeros for the result at position ``info``, which counts failures."""
    size = results[info].shape
    if size.numel() > LIMIT:
        return tuple(results)
    with dispatch_disabled(), autograd_disabled():
        none = torch.zeros(size, dtype=torch.int32, device="cpu")
    return (*results[:info], wrap(none, results[info].device), *results[info + 1 :])
