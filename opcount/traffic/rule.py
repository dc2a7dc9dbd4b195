"""The rule by which an overload's schema says what a call reads and writes, made into a function for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from opcount._torch.dispatch import changes_shape, is_written, schema_of
from opcount.formulas.free import QUESTIONS, packet_base
from opcount.traffic.registry import Traffic, family_traffic
from opcount.traffic.touched import requested, touched, touched_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opcount._torch.dispatch import OpOverload

_FAMILIAR = {"aten", "prims"}
"""Namespaces whose names mean what ATen's do."""

_SILENT_NAMESPACES = {"prim", "profiler"}

_UNTOUCHED = frozenset(
    """
    _unsafe_view _reshape_alias unsafe_chunk unsafe_split unsafe_split_with_sizes lift_fresh set set_data _coalesced
    resize resize_as resize_as_sparse sparse_resize sparse_resize_and_clear _resize_output _efficientzerotensor
    _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
    _sparse_compressed_tensor_unsafe _sparse_compressed_tensor_with_dims sparse_compressed_tensor
    """.split()
) | frozenset(QUESTIONS.split())
"""Operators of ``aten`` and ``prims`` that touch no data, and whose schema does not say so."""

_UNREAD = {
    "self": """
        zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full fill zero copy
        normal_functional uniform exponential geometric cauchy log_normal random
        avg_pool2d_backward avg_pool3d_backward _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward
        adaptive_max_pool2d_backward adaptive_max_pool3d_backward
        max_pool2d_with_indices_backward max_pool3d_with_indices_backward
        fractional_max_pool2d_backward fractional_max_pool3d_backward
        reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward
        replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward
    """,
    "other": "resize_as _sparse_resize_as",
}
"""Arguments of operators that are asked for their shape alone."""

_SCALED = frozenset("addmm baddbmm addmv addbmm addr _addmm_activation".split())
"""Products that are added to ``beta * self``: with a ``beta`` of 0, ``self`` is not read."""

_FILLS = frozenset(
    """
    copy fill zero _foreach_copy _foreach_zero _fill_mem_eff_dropout_mask copy_sparse_to_sparse
    bernoulli cauchy exponential geometric log_normal normal random uniform
    """.split()
)
"""In-place operators, without their underscore, that do not read what they overwrite."""


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
    if namespace in _SILENT_NAMESPACES or changes_shape(func):
        return None
    if namespace in _FAMILIAR and (base in _UNTOUCHED or base.startswith(("empty", "new_empty"))):
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
        beta: The argument by which the first one read is multiplied, if there is one.
        copies_view: Whether a view is copied, so that no more is read than is written.
        has_list: Whether an argument or the result is a list of tensors.
        varies: Whether an argument may be left out, or a layout changed.
    """

    read: tuple[_Place, ...]
    written: tuple[_Place, ...]
    fresh: tuple[int, ...]
    returns: int
    mask: _Place | None = None
    beta: _Place | None = None
    copies_view: bool = False
    has_list: bool = False
    varies: bool = False

    @classmethod
    def of(cls, func: OpOverload) -> _Rule:
        schema = schema_of(func)
        namespace, _, packet = schema.name.partition("::")
        base = packet_base(packet) if namespace in _FAMILIAR else ""
        places = {a.name: (_Place(-1 if a.kwarg_only else i, a.name), a) for i, a in enumerate(schema.arguments)}
        holding = [(place, a) for place, a in places.values() if "Tensor" in str(a.type)]
        unread = {name for name, packets in _UNREAD.items() if base in packets.split()}
        fills = base in _FILLS
        return cls(
            tuple(
                place for place, a in holding
                if (not (fills or a.is_out) if is_written(func, a) else a.name not in unread)
            ),
            tuple(place for place, a in holding if is_written(func, a)),
            tuple(i for i, r in enumerate(schema.returns) if r.alias_info is None and "Tensor" in str(r.type)),
            len(schema.returns),
            places["output_mask"][0] if "output_mask" in places else None,
            places["beta"][0] if base in _SCALED else None,
            torch.Tag.view_copy in func.tags,
            any("List" in str(part.type) for part in (*(a for _, a in holding), *schema.returns)),
            "sparse" in packet or any(a.has_default_value() for _, a in holding),
        )  # fmt: skip

    def simplest(self) -> Traffic:
        """Return a function that does no more than the rule needs."""
        if self.mask is not None or self.copies_view:
            return self.moved
        read, written = tuple(place.at for place in self.read), tuple(place.at for place in self.written)
        if self.beta is not None:
            return read_scaled if not written and read == (0, 1, 2) else self.moved
        simple: dict[tuple[int, ...], Traffic] = {}
        if not written and self.fresh == (0,) and self.returns == 1 and not self.varies:
            simple = {(0,): _read_list} if self.has_list else _SIMPLE
        elif not self.fresh and written == (0,) and not self.has_list and not self.varies:
            simple = {(): _fill, (0,): change_one, (1,): _copy, (0, 1): change_by_two}
        return simple.get(read) or (self.moved if -1 in read + written else self._by_position(read, written))

    def moved(self, out: Any, /, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Return the bytes read and written."""
        places = self.read
        if self.beta is not None and kwargs.get("beta", 1) == 0:
            places = places[1:]
        read = touched_by([place.value(args, kwargs) for place in places])
        written = touched_by([place.value(args, kwargs) for place in self.written])
        written += touched_by(self._returned(out, args, kwargs))
        return min(read, written) if self.copies_view else read, written

    def _by_position(self, read: tuple[int, ...], written: tuple[int, ...]) -> Traffic:
        """Return `moved` for calls that have all of these arguments by position."""
        moved, arguments = self.moved, max((*read, *written), default=-1) + 1
        returned = self._returned if self.fresh else None
        only_read = [i for i in read if i not in written]
        changes = bool(written) and len(only_read) + len(written) == len(read)

        def by_position(out: Any, /, *args: Any, **kwargs: Any) -> tuple[int, int]:
            if len(args) < arguments:
                return moved(out, *args, **kwargs)
            fresh = 0 if returned is None else touched_by(returned(out, args, kwargs))
            if not changes:
                return touched_by([args[i] for i in read]), touched_by([args[i] for i in written]) + fresh
            seen: set[int] = set()
            size = touched_by([args[i] for i in written], seen)
            return size + touched_by([args[i] for i in only_read], seen), size + fresh

        return by_position

    def _returned(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        if self.returns == 1:
            return [out] if self.fresh else []
        if self.mask is not None:
            return requested(out, self.mask.value(args, kwargs))
        return [out[i] for i in self.fresh if i < len(out)]


def read_one(out: Any, a: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """One tensor is read, and one is written."""
    return a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a), out.nbytes


def read_two(out: Any, a: Any, b: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """Two tensors are read, and one is written; the second one may be a number."""
    read = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    if b is not a and isinstance(b, Tensor):
        read += b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)
    return read, out.nbytes


def read_three(out: Any, a: Any, b: Any, c: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """Three tensors are read, and one is written; the last two may be numbers, the last one None."""
    read = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    if b is not a and isinstance(b, Tensor):
        read += b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)
    if c is not None and c is not b and c is not a and isinstance(c, Tensor):
        read += c.nbytes if c.is_contiguous() or 0 not in c.stride() else touched(c)
    return read, out.nbytes


def read_scaled(out: Any, a: Any, b: Any, c: Any, /, *_: Any, beta: Any = 1, **__: Any) -> tuple[int, int]:
    """Two tensors are read, and the first one but where its factor is 0; one is written."""
    read = b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)
    if c is not b:
        read += c.nbytes if c.is_contiguous() or 0 not in c.stride() else touched(c)
    if a is not b and a is not c and beta != 0:
        read += a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    return read, out.nbytes


def change_one(_out: Any, a: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """One tensor is read and written."""
    size = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    return size, size


def change_by_two(_out: Any, a: Any, b: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    """The first of two tensors is read and written, the second is read; it may be a number."""
    size = a.nbytes if a.is_contiguous() or 0 not in a.stride() else touched(a)
    if b is a or not isinstance(b, Tensor):
        return size, size
    return size + (b.nbytes if b.is_contiguous() or 0 not in b.stride() else touched(b)), size


def _fill(_out: Any, a: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    return 0, touched(a)


def _copy(_out: Any, a: Any, b: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    return touched(b) if isinstance(b, Tensor) else 0, touched(a)


def _write_one(out: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    return 0, touched(out) if isinstance(out, Tensor) else 0


def _read_list(out: Any, tensors: Any, /, *_: Any, **__: Any) -> tuple[int, int]:
    read = touched_by(tensors if isinstance(tensors, (list, tuple)) else (tensors,))
    return read, touched(out) if isinstance(out, Tensor) else touched_by(out)


_SIMPLE: dict[tuple[int, ...], Traffic] = {(): _write_one, (0,): read_one, (0, 1): read_two, (0, 1, 2): read_three}
"""Functions for calls that return one tensor, by the positions of what is read."""
