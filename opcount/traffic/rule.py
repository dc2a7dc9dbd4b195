"""The rule by which an overload's schema says what a call reads and writes, made into a function for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from opcount._torch.dispatch import schema_of
from opcount.formulas.free import QUESTIONS, packet_base
from opcount.traffic.registry import Traffic, family_traffic
from opcount.traffic.touched import touched, touched_by

if TYPE_CHECKING:
    from opcount._torch.dispatch import OpOverload

_SILENT_NAMESPACES = {"prim", "profiler"}

_UNTOUCHED = frozenset(
    "_unsafe_view _reshape_alias lift_fresh resize resize_as set set_data _resize_output".split()
) | frozenset(QUESTIONS.split()) - {"_local_scalar_dense", "item", "_linalg_check_errors", "_print"}
"""Operators of ``aten`` and ``prims`` that touch no data, and whose schema does not say so."""

_FILLS = frozenset(
    """
    copy fill zero _foreach_copy _foreach_zero _fill_mem_eff_dropout_mask copy_sparse_to_sparse
    bernoulli cauchy exponential geometric log_normal normal random uniform
    """.split()
)
"""In-place operators, without their underscore, that do not read what they overwrite."""


def moves_nothing(_out: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """Views, questions about metadata, memory that is left uninitialised."""
    return 0, 0


def of_any_call(out: Any, /, *args: Any, **kwargs: Any) -> tuple[int, int]:
    """Without a schema: each tensor argument is read, and each tensor returned is written."""
    return touched_by((*args, *kwargs.values())), touched_by((out,))


def traffic_of(func: OpOverload) -> Traffic | None:
    """Return the function that says what a call of an overload reads and writes; None if that is nothing.

    Example:
        >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
        >>> traffic_of(torch.ops.aten.mm.default)(a @ b, a, b)
        (72, 32)
        >>> traffic_of(torch.ops.aten.t.default)
    """
    schema = schema_of(func)
    namespace, _, packet = schema.name.partition("::")
    base = packet_base(packet)
    if namespace in _SILENT_NAMESPACES or torch.Tag.inplace_view in func.tags:
        return None
    if namespace in {"aten", "prims"} and (base in _UNTOUCHED or base.startswith(("empty", "new_empty"))):
        return None
    own = family_traffic(func)
    if own is not None:
        return own
    rule = _Rule.of(func)
    if not rule.written and not rule.fresh and _returns_views(schema):
        return None
    return rule.simplest()


def _returns_views(schema: Any) -> bool:
    returns = schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


class _Place(NamedTuple):
    """An argument's place in a call.

    Attributes:
        at: Its position; -1: it is given by name.
        name: Its name.
    """

    at: int
    name: str

    def value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[self.at] if 0 <= self.at < len(args) else kwargs.get(self.name)


class _Rule(NamedTuple):
    """Operands that a call reads and writes, by the schema.

    Attributes:
        read: Arguments.
        written: Arguments.
        fresh: Returned values that are memory of their own.
        returns: How many there are.
        mask: The argument that says which of them are asked for, if there is one.
    """

    read: tuple[_Place, ...]
    written: tuple[_Place, ...]
    fresh: tuple[int, ...]
    returns: int
    mask: _Place | None = None

    @classmethod
    def of(cls, func: OpOverload) -> _Rule:
        schema = schema_of(func)
        packet = packet_base(schema.name.partition("::")[2])
        places = [(_Place(-1 if a.kwarg_only else i, a.name), a) for i, a in enumerate(schema.arguments)]
        holding = [(place, a) for place, a in places if "Tensor" in str(a.type)]
        fills = packet in _FILLS
        return cls(
            tuple(place for place, a in holding if not _is_written(a) or not (fills or a.is_out)),
            tuple(place for place, a in holding if _is_written(a)),
            tuple(i for i, r in enumerate(schema.returns) if r.alias_info is None and "Tensor" in str(r.type)),
            len(schema.returns),
            next((place for place, a in places if a.name == "output_mask"), None),
        )

    def simplest(self) -> Traffic:
        """Return a function that does no more than the rule needs."""
        if not self.written and self.mask is None and self.fresh == (0,) and self.returns == 1:
            places = [place.at for place in self.read]
            if places == [0]:
                return _one_read
            if places == [0, 1]:
                return _two_read
            if places == [0, 1, 2]:
                return _three_read
        return self.moved

    def moved(self, out: Any, /, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Return the bytes read and written."""
        read = touched_by([place.value(args, kwargs) for place in self.read])
        written = touched_by([place.value(args, kwargs) for place in self.written])
        return read, written + touched_by(self._returned(out, args, kwargs))

    def _returned(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if self.returns == 1:
            return [out] if self.fresh else []
        asked = None if self.mask is None else self.mask.value(args, kwargs)
        if asked is not None and len(asked) == len(out):
            return [value for value, wanted in zip(out, asked, strict=True) if wanted]
        return [out[i] for i in self.fresh if i < len(out)]


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _one_read(out: Any, a: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    return a.nbytes if a.is_contiguous() else touched(a), out.nbytes


def _two_read(out: Any, a: Any, b: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    read = a.nbytes if a.is_contiguous() else touched(a)
    if b is not a and isinstance(b, Tensor):
        read += b.nbytes if b.is_contiguous() else touched(b)
    return read, out.nbytes


def _three_read(out: Any, a: Any, b: Any, c: Any = None, /, *_: Any, **__: Any) -> tuple[int, int]:
    return touched_by((a, b, c)), out.nbytes
