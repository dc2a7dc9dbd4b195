"""Unknown numbers, results of ``tensor.item()``: a program may log them and compute with them, but not decide by them.

A training loop sums the numbers of its losses and prints them, and an optimizer scales its step by the norm of a
parameter, which has no effect on what runs. Whatever may have one (a comparison, a bool, an index, a plain ``float``)
is refused, in the name of the operator that made the number.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from opcount._torch.dispatch import aten
from opcount.dryrun.checks import (
    asking,
    called_function,
    instruction_at,
    is_compared_in_a_check,
    passes_keywords,
    truth_that_passes,
    truth_to_go_on,
)
from opcount.dryrun.unknown import UNKNOWN
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from opcount.dryrun.refusals import Refusals

SCALAR = aten("_local_scalar_dense.default")
"""Operator of ``tensor.item()``."""

_EQUAL = torch.ops.aten.equal.default

QUESTIONS = frozenset({SCALAR, _EQUAL, torch.ops.aten.allclose.default})
"""Operators that return one number or bool."""

_item = Tensor.item

_PLATEAU = ReduceLROnPlateau.step.__code__

_FINITE = {"isfinite", "isnan", "isinf"}
_NAN = float("nan")

_SAME_KIND = (
    "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod", "pow",
    "rpow", "neg", "pos", "abs", "round",
)  # fmt: skip
"""Methods whose result is an unknown number as well."""

_DECIDING = (
    "int", "index", "hash", "trunc", "floor", "ceil", "complex", "divmod",
    "rdivmod", "reduce_ex", "and", "or", "xor", "invert", "lshift", "rshift",
)  # fmt: skip
"""Methods by which a program decides, or that return a plain number."""


_EXTREMES = {"max": max, "min": min}

_SCALED = {
    name + ending
    for name in (
        "add",
        "sub",
        "mul",
        "div",
        "true_divide",
        "addcmul",
        "addcdiv",
        "lerp",
        "clamp",
        "clamp_min",
        "clamp_max",
    )
    for ending in ("", "_")
} | {f"_foreach_{name}{ending}" for name in ("add", "sub", "mul", "div") for ending in ("", "_")}
"""Functions of tensors that run the same operators whatever number they are given."""

_BOUNDS = {"min", "max"}
"""Arguments to which no number is special: as ``alpha``, 1 takes another operator."""

_ANY_NUMBER = 0.7071


class DryNumber:
    """Unknown number.

    Args:
        kind: ``float``, ``int`` or ``bool``, for `isinstance`.
        refuse: Returns the error that names the source of the number.
        forget: Marks the value of a tensor that is computed with the number as unknown.

    Attributes:
        bounded: Whether ``max`` or ``min`` may have returned another number in its place, such as 1.
    """

    __slots__ = ("_kind", "bounded", "forget", "refusal")

    def __init__(self, kind: type, refuse: Callable[[], Exception], forget: Callable[[Tensor], None]) -> None:
        self._kind = kind
        self.refusal = refuse
        self.forget = forget
        self.bounded = False

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._kind

    def __float__(self) -> float:
        frame = sys._getframe(1)
        if called_function(frame) in _FINITE:
            return 0.0
        if _formats(frame) or _only_waits(frame):
            return _NAN
        raise self.refusal()

    def __array_ufunc__(self, ufunc: Any, method: str, *_inputs: object, **_options: object) -> Any:
        if method == "__call__" and ufunc.__name__ in _FINITE:
            return ufunc(0.0)
        raise self.refusal()

    def __format__(self, spec: str) -> str:
        try:
            return format(_NAN, spec)
        except ValueError:  # of integers
            return format(0, spec)

    def __str__(self) -> str:
        return str(_NAN)

    __repr__ = __str__

    def __copy__(self) -> DryNumber:
        return self

    def __deepcopy__(self, _memo: object) -> DryNumber:
        return self

    @classmethod
    def __torch_function__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Scale tensors, whose values are unknown from then on; refuse to pass the number to another function."""
        named = kwargs or {}
        number = next(value for value in (*args, *named.values()) if type(value) is DryNumber)
        one_is_special = number.bounded and any(type(named[name]) is DryNumber for name in named.keys() - _BOUNDS)
        if getattr(func, "__name__", "") not in _SCALED or not isinstance(number, float) or one_is_special:
            raise number.refusal()
        out = func(*map(_plain, args), **{name: _plain(value) for name, value in named.items()})
        for tensor in tensors((out, args[0]) if func.__name__.endswith("_") else (out,)):
            number.forget(tensor)
        return out


def _unknown(number: Any, *_others: object) -> DryNumber:
    return DryNumber(float, number.refusal, number.forget)


def _plain(value: Any) -> Any:
    return _ANY_NUMBER if type(value) is DryNumber else value


def _refused(number: Any, *_others: object) -> Any:
    raise number.refusal()


def _compared(number: Any, *_others: object) -> bool:
    truth = truth_that_passes(sys._getframe(1))
    if truth is None:
        raise number.refusal()
    return truth


def _exceeds(number: Any, _other: object) -> bool:
    return _ordered(number, sys._getframe(1), "max")


def _falls_below(number: Any, _other: object) -> bool:
    return _ordered(number, sys._getframe(1), "min")


def _ordered(number: DryNumber, frame: FrameType, chosen_by: str) -> bool:
    """Return whether a comparison is true; ``max`` and ``min`` return the unknown number, as which any would do."""
    name = called_function(frame) or ""
    function = _EXTREMES.get(name)
    if function and frame.f_globals.get(name, function) is function and not passes_keywords(frame):
        number.bounded = True
        return name == chosen_by
    truth = truth_that_passes(frame)
    if truth is None:
        raise number.refusal()
    return truth


def _equals(number: Any, other: object) -> bool:
    return True if other is number else _compared(number)


def _differs(number: Any, other: object) -> bool:
    return False if other is number else _compared(number)


DryNumber.__eq__, DryNumber.__ne__ = _equals, _differs  # type: ignore[method-assign]
for _name in ("bool", "le", "ge"):
    setattr(DryNumber, f"__{_name}__", _compared)
DryNumber.__gt__, DryNumber.__lt__ = _exceeds, _falls_below  # type: ignore[operator]
for _name in _SAME_KIND:
    setattr(DryNumber, f"__{_name}__", _unknown)
for _name in _DECIDING:
    setattr(DryNumber, f"__{_name}__", _refused)


class _Asking(threading.local):
    """Thread-local flag: an unknown number is being made."""

    leniently = False


class Numbers:
    """Results of ``tensor.item()`` in one dry run.

    Args:
        known: Returns the value of a tensor, or None.
        forget: Marks the value of a tensor as unknown.
        refusals: Refuses decisions by an unknown number.
    """

    def __init__(
        self, known: Callable[[Tensor], Tensor | None], forget: Callable[[Tensor], None], refusals: Refusals
    ) -> None:
        self._known = known
        self._forget = forget
        self._refusals = refusals
        self._asking = _Asking()

    def of(self, tensor: Tensor, frame: FrameType) -> Any:
        """Return an unknown number for a program that uses one outside of modules or in a check, else None.

        Elsewhere in modules such numbers decide what runs, unless the program drops them.
        """
        dtype = tensor.dtype
        if dtype is torch.bool or dtype.is_complex or tensor.numel() != 1:
            return None
        if not _is_dropped(frame):
            if self._refusals.in_module and not is_compared_in_a_check(frame):
                return None
            if not _is_used(frame):
                return None
        if self._known(tensor) is not None:
            return None
        self._asking.leniently = True
        try:
            _item(tensor)  # for those who count
        finally:
            self._asking.leniently = False
        return DryNumber(float if dtype.is_floating_point else int, self._refusals.later(SCALAR), self._forget)

    def asked(self, func: Any, given: list[Tensor], frame: FrameType | None) -> Any:
        """Return a replacement for an unknown number or bool, or `UNKNOWN`."""
        if self._asking.leniently:
            return 0
        first, second = given[0], given[-1]
        if func is _EQUAL and first.shape != second.shape:
            return False
        frame = asking(frame)
        if frame is not None and func is SCALAR and _only_waits(frame):
            return _NAN
        truth = None if frame is None or (func is SCALAR and first.numel() != 1) else truth_to_go_on(frame)
        if truth is None:
            return UNKNOWN
        return float(truth) if func is SCALAR and first.dtype.is_floating_point else truth


def _is_dropped(frame: FrameType) -> bool:
    """Return whether a frame is running the statement ``tensor.item()``, which waits for the tensor and no more."""
    following = instruction_at(frame.f_code, frame.f_lasti, 1)
    return following is not None and following.opname == "POP_TOP" and called_function(frame) == "item"


def _is_used(frame: FrameType | None) -> bool:
    """Return whether the result of the function that a frame is calling is used, by it or by those it returns to."""
    while frame is not None:
        following = instruction_at(frame.f_code, frame.f_lasti, 1)
        if following is None or following.opname == "POP_TOP":
            return False
        if following.opname != "RETURN_VALUE":
            return True
        frame = frame.f_back
    return False


def _only_waits(frame: FrameType) -> bool:
    """Return whether a scheduler asks for its metric, and would not change the learning rate even if it got worse."""
    scheduler = frame.f_locals.get("self") if frame.f_code is _PLATEAU else None
    return scheduler is not None and scheduler.num_bad_epochs < scheduler.patience


def _formats(frame: FrameType) -> bool:
    """Return whether a frame is formatting by ``%``."""
    instruction = instruction_at(frame.f_code, frame.f_lasti)
    return instruction is not None and (
        instruction.opname == "BINARY_MODULO" or (instruction.opname == "BINARY_OP" and instruction.argrepr == "%")
    )
