"""The rule by which an overload's schema says what a call reads and writes, made into a function for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount._torch.dispatch import changes_shape, is_written, schema_of
from opcount.formulas.free import QUESTIONS, packet_base
from opcount.traffic.registry import Traffic, family_traffic
from opcount.traffic.touched import requested, touched_by
from opcount.traffic.written_out import Shape, written_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opcount._torch.dispatch import OpOverload

_FAMILIAR = {"aten", "prims"}
"""Namespaces whose names mean what ATen's do."""

_SILENT_NAMESPACES = {"prim", "profiler"}
_WRAPS = "_c10d_functional::_wrap_tensor_autograd"
"""Puts the result of a collective into a tensor that waits for it, unlike what its schema says."""

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


def of_any_call(out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[int, int]:
    """Without a schema: each tensor argument is read, and each tensor returned is written."""
    return touched_by((*args, *kwargs.values()) if kwargs else args), touched_by((out,))


def traffic_of(func: OpOverload) -> Traffic | None:
    """Return the function that says what a call of an overload reads and writes; None if that is nothing.

    Example:
        >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
        >>> traffic_of(torch.ops.aten.mm.default)(a @ b, (a, b), {})
        (72, 32)
        >>> traffic_of(torch.ops.aten.t.default)
    """
    schema = schema_of(func)
    namespace, _, packet = schema.name.partition("::")
    base = packet_base(packet)
    if namespace in _SILENT_NAMESPACES or schema.name == _WRAPS or changes_shape(func):
        return None
    if namespace in _FAMILIAR and (base in _UNTOUCHED or base.startswith(("empty", "new_empty"))):
        return None
    own = family_traffic(func)
    if own is not None:
        return own
    rule = Rule.of(func)
    if not rule.written and not rule.fresh and _returns_views(schema):
        return None
    shape = rule.shape()
    return rule.moved if shape is None else written_out(shape, rule.moved)


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


class Rule(NamedTuple):
    """Operands that a call reads and writes, by the schema.

    Attributes:
        read: Arguments.
        written: Arguments.
        fresh: Returned values that are memory of their own.
        returns: How many there are.
        mask: The argument that says which of them are asked for, if there is one.
        beta: The argument by which the first one read is multiplied, if there is one.
        copies_view: Whether a view is copied, so that no more is read than is written.
        lists: Those of the arguments that are lists of tensors.
        returns_list: Whether a list of tensors is returned.
        makes_sparse: Whether a result may be sparse where no argument is.
        optional: Those of the arguments that may be left out.
    """

    read: tuple[_Place, ...]
    written: tuple[_Place, ...]
    fresh: tuple[int, ...]
    returns: int
    mask: _Place | None = None
    beta: _Place | None = None
    copies_view: bool = False
    lists: tuple[_Place, ...] = ()
    returns_list: bool = False
    makes_sparse: bool = False
    optional: tuple[_Place, ...] = ()

    @classmethod
    def of(cls, func: OpOverload) -> Rule:
        """Return the rule that an overload's schema makes."""
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
            tuple(place for place, a in holding if "List" in str(a.type)),
            any("List" in str(value.type) for value in schema.returns),
            "sparse" in packet,
            tuple(place for place, a in holding if a.has_default_value()),
        )  # fmt: skip

    def moved(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[int, int]:
        """Return the bytes read and written."""
        kwargs = kwargs or {}
        places = self.read
        if self.beta is not None and kwargs.get("beta", 1) == 0:
            places = places[1:]
        read = touched_by([place.value(args, kwargs) for place in places])
        written = touched_by([place.value(args, kwargs) for place in self.written])
        written += touched_by(self._returned(out, args, kwargs))
        return min(read, written) if self.copies_view else read, written

    def shape(self) -> Shape | None:
        """Return what can be written out; None: calls differ by more than by their sizes."""
        by_name = any(place.at < 0 for place in self.read + self.written)
        if self.mask is not None or self.copies_view or self.makes_sparse or by_name:
            return None
        read, written, lists, optional = (
            tuple(place.at for place in places) for places in (self.read, self.written, self.lists, self.optional)
        )
        scales = self.beta is not None
        return Shape(read, written, lists, optional, self.fresh, self.returns, self.returns_list, scales)

    def _returned(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        if self.returns == 1:
            return [out] if self.fresh else []
        if self.mask is not None:
            return requested(out, self.mask.value(args, kwargs))
        return [out[i] for i in self.fresh if i < len(out)]
