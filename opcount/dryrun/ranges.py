"""Ranges of tensors whose values are unknown: what sigmoid returns lies between 0 and 1, whatever it was given.

Programs check that (``probabilities.min() < 0``). A range holds for the memory of a result, and so for all views of it,
until something is written there. Its bounds are small integers, which every dtype it is noted for represents exactly.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.tensors import storage_key
from opcount.dryrun.tensors import DryTensor
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    Range = tuple[float, float]
    Wrap = Callable[[Tensor, torch.device], Any]

_aten = torch.ops.aten

_LARGEST = 256
"""Largest bound: bfloat16 represents integers up to here."""

_SWEEP = 256
_SMALLEST_ITEM = 2


class RangeRule(NamedTuple):
    """Rule for the range of a result.

    Attributes:
        source: Whether a result has a range whatever the arguments are.
        find: Returns the range, given ranges, arguments and named arguments.
    """

    source: bool
    find: Callable[[Ranges, tuple[Any, ...], dict[str, Any]], Range | None]


def _unit(*_arguments: object) -> Range:
    return 0, 1


def _of_first(ranges: Ranges, args: tuple[Any, ...], _kwargs: object) -> Range | None:
    """Return the range of results that are elements of the first argument."""
    return ranges.of(args[0])


def _of_all(ranges: Ranges, args: tuple[Any, ...], _kwargs: object) -> Range | None:
    """Return the range of results that are elements of several tensors."""
    found = [ranges.of(tensor) or (-inf, inf) for tensor in args[0]]
    return min(low for low, _ in found), max(high for _, high in found)


def _clamped(*names: str) -> RangeRule:
    """Return the rule for an operator whose arguments with these names bound its result."""

    def find(ranges: Ranges, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Range:
        low, high = ranges.of(args[0]) or (-inf, inf)
        bounds = dict(zip(names, args[1:], strict=False)) | kwargs
        least, most = bounds.get("min"), bounds.get("max")
        if least is not None:
            low, high = max(low, _floor(least)), max(high, _ceil(least))
        if most is not None:
            low, high = min(low, _floor(most)), min(high, _ceil(most))
        return low, high

    return RangeRule(source=True, find=find)


_UNIT, _OF_FIRST, _OF_ALL = RangeRule(True, _unit), RangeRule(False, _of_first), RangeRule(False, _of_all)  # noqa: FBT003  (source)

_RULES = {
    "sigmoid.default": _UNIT, "hardsigmoid.default": _UNIT, "_softmax.default": _UNIT, "_safe_softmax.default": _UNIT,
    "clamp.default": _clamped("min", "max"), "clamp_min.default": _clamped("min"),
    "clamp_max.default": _clamped("max"),
    "clone.default": _OF_FIRST, "_to_copy.default": _OF_FIRST, "amax.default": _OF_FIRST, "amin.default": _OF_FIRST,
    "max.default": _OF_FIRST, "min.default": _OF_FIRST, "index.Tensor": _OF_FIRST, "index_select.default": _OF_FIRST,
    "gather.default": _OF_FIRST, "cat.default": _OF_ALL, "stack.default": _OF_ALL,
}  # fmt: skip


def range_rule_of(func: Any) -> RangeRule | None:
    """Return the rule for the results of an operator, or None."""
    return _RULES.get(str(func).removeprefix("aten."))


_COMPARISONS: dict[Any, Callable[[float, float, Any], tuple[bool, bool]]] = {
    _aten.lt.Scalar: lambda low, high, number: (_is_exact(number) and high < number, low >= number),
    _aten.le.Scalar: lambda low, high, number: (high <= number, _is_exact(number) and low > number),
    _aten.gt.Scalar: lambda low, high, number: (_is_exact(number) and low > number, high <= number),
    _aten.ge.Scalar: lambda low, high, number: (low >= number, _is_exact(number) and high < number),
}
"""Comparisons, as a function that returns whether each number of a range passes, and whether each fails.

A number that a dtype rounds may become equal to a bound.
"""

COMPARISONS = frozenset(_COMPARISONS)


class Ranges:
    """Ranges of memory in one dry run.

    Args:
        wrap: Makes a tensor with a known value.
    """

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap
        self._held: dict[int, tuple[StorageWeakRef, torch.dtype, Range]] = {}
        self._sweep_at = _SWEEP

    def __bool__(self) -> bool:
        return bool(self._held)

    def of(self, tensor: Any) -> Range | None:
        """Return the range of a tensor, or None if it has none."""
        if not self._held or type(tensor) is not DryTensor or tensor.layout is not torch.strided or tensor.is_neg():
            return None
        held = self._held.get(storage_key(tensor.untyped_storage()))
        return held[2] if held is not None and held[1] is tensor.dtype else None

    def note(self, rule: RangeRule | None, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Remember the range of a new result, if it has one."""
        if rule is None or not (rule.source or self._held):
            return
        if type(out) is not DryTensor or not out.dtype.is_floating_point or out.itemsize < _SMALLEST_ITEM:
            return
        found = rule.find(self, args, kwargs)
        if found is None or found == (-inf, inf):
            return
        if len(self._held) > self._sweep_at:
            self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
            self._sweep_at = max(_SWEEP, 2 * len(self._held))
        storage = out.untyped_storage()
        self._held[storage_key(storage)] = (StorageWeakRef(storage), out.dtype, found)

    def forget(self, tensor: Tensor) -> None:
        """Forget the range of a tensor that is written to, and of all that share its memory."""
        if self._held and isinstance(tensor, DryTensor) and tensor.layout is torch.strided:
            self._held.pop(storage_key(tensor.untyped_storage()), None)

    def compared(self, func: Any, args: tuple[Any, ...]) -> Any:
        """Return a comparison with a number that is the same for each number of the range, else `UNKNOWN`."""
        tensor, number = args
        found = self.of(tensor)
        if found is None or type(number) not in {int, float} or tensor.numel() > LIMIT:
            return UNKNOWN
        true, false = _COMPARISONS[func](*found, number)
        if not (true or false):
            return UNKNOWN
        with dispatch_disabled(), autograd_disabled():
            like = torch.empty_strided(tensor.shape, tensor.stride(), device="meta")
            known = torch.full_like(like, true, dtype=torch.bool, device="cpu")
        return self._wrap(known, tensor.device)


def _floor(number: Any) -> float:
    return floor(number) if abs(number) <= _LARGEST else -inf


def _ceil(number: Any) -> float:
    return ceil(number) if abs(number) <= _LARGEST else inf


def _is_exact(number: float) -> bool:
    return abs(number) <= _LARGEST and number == floor(number)
