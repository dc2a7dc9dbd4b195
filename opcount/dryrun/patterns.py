"""Sparse tensors with known indices, on which the number of stored elements depends.

In a dry run such a tensor is a real one. If its values are unknown, it stores ones until the dry run is over, and its
memory is marked as of unknown value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opcount._torch.autograd import autograd_disabled
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.tensors import storage_key
from opcount.dryrun.fakes import CPU
from opcount.dryrun.sparse_kernels import check_kernel
from opcount.dryrun.tensors import DryTensor, stands_for_data
from opcount.dryrun.unknown import UNKNOWN
from opcount.dryrun.values import stored_values
from opcount.identity import identity
from opcount.interceptor import calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opcount.dryrun.fakes import Fakes
    from opcount.dryrun.operators import Facts
    from opcount.dryrun.refusals import Refusals
    from opcount.dryrun.values import Values

LAYOUTS = frozenset({torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc})

_CONSTRUCTORS = {
    "sparse_coo_tensor", "_sparse_coo_tensor_unsafe", "_sparse_coo_tensor_with_dims",
    "_sparse_coo_tensor_with_dims_and_tensors", "sparse_compressed_tensor", "_sparse_compressed_tensor_unsafe",
    "_sparse_compressed_tensor_with_dims", "_spdiags",
}  # fmt: skip

_OF_DENSE = {
    "sparse_mask", "mul", "mul_", "div", "div_", "index_select", "_sparse_sum_backward", "_sparse_mask_projection",
}  # fmt: skip
"""Operators on a dense and a sparse tensor whose result has indices of the sparse one."""

_INDICES = {"_indices", "indices", "crow_indices", "col_indices", "ccol_indices", "row_indices"}
_QUESTIONS = {"_nnz", "sparse_dim", "dense_dim", "is_coalesced", "_dimI", "_dimV"}
"""Queries that depend on the indices alone."""

_SAMPLED = "sparse_sampled_addmm"
_OF_BAGS = "_embedding_bag_backward"

_MAKERS = {*_CONSTRUCTORS, _OF_BAGS}


class Patterns:
    """Run operators on sparse tensors on the CPU.

    Args:
        fakes: Makes dense results.
        values: Known values.
        refusals: Refuses writes to tensors of the program.
    """

    def __init__(self, fakes: Fakes, values: Values, refusals: Refusals) -> None:
        self._fakes = fakes
        self._values = values
        self._refusals = refusals

    def own(self, made: Tensor, arguments: Iterable[Tensor]) -> None:
        """Allow writes to a new sparse tensor, unless it shares memory with an argument."""
        values = stored_values(made)
        if values is not None:
            shared = {memory for tensor in arguments for memory in _memory_of(tensor)}
            if storage_key(values.untyped_storage()) not in shared:
                self._values.adopt(values)

    def run(self, facts: Facts, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of an operator on sparse tensors with known indices, else `UNKNOWN`."""
        makes = facts.name in _MAKERS or kwargs.get("layout") in LAYOUTS
        if not makes and all(t.layout is torch.strided for t in tensors):
            return UNKNOWN
        random = torch.Tag.nondeterministic_seeded in facts.func.tags
        with dispatch_disabled(), autograd_disabled():
            if random or not all(map(_is_supported, tensors)) or not self._may_write(facts, args):
                return UNKNOWN
            return self._run(facts, tensors, args, kwargs)

    def _run(self, facts: Facts, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, exact = facts.name, facts.name in _CONSTRUCTORS
        unknown = {identity(t) for t in tensors if self._values.of(t) is None}
        if name == _OF_BAGS:
            return self._of_bags(*args)
        if name == _SAMPLED:
            return self._sampled(*args)
        if unknown and name == "_to_dense":
            dtype = kwargs.get("dtype") or tensors[0].dtype
            return self._fake(torch.empty(tensors[0].shape, dtype=dtype, device="meta"))
        if not _needs_patterns_alone(facts, tensors, unknown):
            return UNKNOWN
        try:
            filled = [self._filled(v, exact=exact) for v in args]
            named = {k: self._filled(v, exact=exact) for k, v in kwargs.items()}
            out = facts.func(*filled, **named)
        except NotImplementedError:
            return UNKNOWN
        others = [t for t in calls.tensors((*filled, *named.values())) if t is not out or not facts.writes]
        return self._result(out, name, others, unknown=bool(unknown))

    def _may_write(self, facts: Facts, args: tuple[Any, ...]) -> bool:
        """Return whether an operator writes to sparse tensors alone; refuse writes to tensors of the program."""
        for index, _ in facts.writes:
            target = args[index] if index < len(args) else None
            if not isinstance(target, Tensor) or target.layout not in LAYOUTS:
                return False
            values = stored_values(target)
            if values is None or not self._values.is_ours(values):
                reason = "writes to a sparse tensor that a dry run has not made"
                raise self._refusals.refuse(facts.func, reason)
        return True

    def _sampled(self, pattern: Tensor, a: Tensor, b: Tensor, *_: Any) -> Any:
        """Return a result with the indices of ``pattern``."""
        product = torch.empty(a.shape, device="meta") @ torch.empty(b.shape, device="meta")
        if product.shape != pattern.shape:
            return UNKNOWN
        check_kernel(torch.ops.aten.sparse_sampled_addmm.default, (pattern, a, b), {})
        return self._result(pattern.clone(), _SAMPLED, [pattern], unknown=True)

    def _of_bags(self, grad: Tensor, taken: Tensor, *args: Any) -> Any:
        """Return a gradient that stores a row for each index except padding."""
        rows, sparse, padding = args[4], args[7], args[9] if len(args) > 9 else -1
        indices = self._values.of(taken)
        if not sparse or grad.device != CPU or indices is None:
            return UNKNOWN
        chosen = indices[indices != padding] if padding >= 0 else indices
        values = self._values.adopt(torch.ones(chosen.numel(), grad.shape[-1], dtype=grad.dtype))
        self._values.forget(values)
        return torch.sparse_coo_tensor(chosen.reshape(1, -1), values, (rows, grad.shape[-1]))

    def _result(self, out: Any, name: str, tensors: list[Tensor], *, unknown: bool) -> Any:
        if isinstance(out, (list, tuple)):
            return type(out)([self._result(o, name, tensors, unknown=unknown) for o in out])
        if not isinstance(out, Tensor):
            return UNKNOWN if unknown and name not in _QUESTIONS else out
        if out.layout in LAYOUTS:
            if not any(out is tensor for tensor in tensors):
                self.own(out, tensors)
            values = stored_values(out)
            if unknown and values is not None:
                self._values.forget(values)
            return out
        return self._fake(out) if unknown and name not in _INDICES else out

    def _filled(self, value: Any, *, exact: bool) -> Any:
        """Replace arguments by their values, and unknown ones by ones, expanded unless ``exact`` strides matter."""
        if isinstance(value, Tensor):
            found = self._values.of(value)
            if found is not None:
                return found
            return self._ones(value, exact=exact) if value.layout is torch.strided else value
        if isinstance(value, (list, tuple)):
            return type(value)([self._filled(v, exact=exact) for v in value])
        return CPU if isinstance(value, torch.device) else value

    def _ones(self, like: Tensor, *, exact: bool) -> Tensor:
        if not exact:
            return torch.ones((), dtype=like.dtype).expand(like.shape)
        size = 1 + sum((n - 1) * step for n, step in zip(like.shape, like.stride(), strict=True))
        ones = self._values.adopt(torch.ones(max(size, 0), dtype=like.dtype))
        return ones.as_strided(like.shape, like.stride())

    def _fake(self, like: Tensor) -> Any:
        return self._fakes.make(like.shape, like.stride(), like.dtype, CPU)


def _needs_patterns_alone(facts: Facts, tensors: list[Tensor], unknown: set[int]) -> bool:
    """Return whether the result needs neither unknown values nor a large product."""
    if unknown and facts.looks:
        return False
    dense = [t for t in tensors if t.layout is torch.strided]
    if 0 < len(dense) < len(tensors) and facts.name not in _OF_DENSE:
        return not (unknown or facts.writes or facts.random) and facts.computes
    places = dense[:-1] if facts.name in _CONSTRUCTORS else dense if facts.name == "index_select" else ()
    return not any(identity(t) in unknown for t in places)


def _is_supported(tensor: Tensor) -> bool:
    if tensor.layout is torch.strided:
        fine = type(tensor) is DryTensor or stands_for_data(type(tensor))
        return fine and tensor.device == CPU and not (tensor.is_nested or tensor.is_quantized or tensor.is_conj())
    return tensor.layout in LAYOUTS and stands_for_data(type(tensor)) and tensor.device == CPU


def _memory_of(tensor: Tensor) -> Iterator[int]:
    plain = tensor if tensor.layout is torch.strided else stored_values(tensor)
    if plain is not None:
        yield storage_key(plain.untyped_storage())
