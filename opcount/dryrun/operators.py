"""Facts about operators: which of them a dry run computes, memoizes or refuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import OpOverload, changes_shape, has_computed_kernel, is_written, schema_of
from opcount.dryrun.cuda_shapes import CORRECTED_ON_CUDA
from opcount.dryrun.expected_results import FINITE_CHECKS
from opcount.dryrun.ranges import COMPARISONS, RangeRule, range_rule_of
from opcount.dryrun.tensors import DryTensor, is_of_a_parameter, stands_for_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

_LOOKS_AT_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

_PRODUCTS = ("conv", "mm", "matmul", "linear", "einsum", "attention", "lstm", "gru", "rnn", "cdist", "fft", "linalg")
_MORE_PRODUCTS = {"mv", "mv_", "addmv", "addmv_", "dot", "vdot", "addr", "addr_", "bilinear", "_trilinear", "embedding"}

_DENSE_PRODUCTS = {
    "mm",
    "addmm",
    "addmm_",
    "mv",
    "addmv",
    "bmm",
    "baddbmm",
    "_sparse_mm",
    "_sparse_addmm",
    "matmul",
    "linear",
}

_FILLED = {"zeros", "ones", "zeros_like", "ones_like", "new_zeros", "new_ones"}
"""Factories that programs use for placeholder data."""

_FACTORIES = {
    *_FILLED, "arange", "full", "eye", "linspace", "logspace", "scalar_tensor", "tril_indices", "triu_indices",
    "full_like", "new_full",
}  # fmt: skip

_TURNS = {"squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "as_strided_", "detach_"}
"""In-place operators that change the metadata of a tensor, not its memory."""

_ABOUT_STORED = {
    "_coalesce", "coalesce", "_values", "values", "_indices", "indices", "crow_indices", "col_indices", "ccol_indices",
    "row_indices", "_nnz", "sparse_mask", "to_sparse", "_to_sparse",
}  # fmt: skip
"""Operators that depend on the number of stored elements of a sparse tensor, besides products."""

_SIZED_BY_VALUES = {"_pack_padded_sequence", "_pad_packed_sequence", "_ctc_loss", "_ctc_loss_backward"}

_CALLS_PRODUCTS = {"_sparse_addmm"}  # for which autocast decides, unseen where values are computed
_READS_WORKSPACES = {"mkldnn_rnn_layer_backward"}
"""Operators that read what kernels keep where gradients are recorded, as they are not while values are computed."""

_RETURNS_ARGUMENTS = {"fsdp.all_gather_copy_in.default", "_c10d_functional.wait_tensor.default"}
"""Operators whose results are arguments, or views of them, undeclared in their schema."""

_BY_GRAD_MODE = {"aten::mkldnn_rnn_layer"}
"""Operators for which there are fewer kernels where gradients are recorded."""

_RATES = {"dropout_p", "dropout", "p"}

MAKERS = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "uniform_", "normal_", "random_",
    "bernoulli_", "exponential_",
})  # fmt: skip
"""Random operators whose results depend on no values."""

_OVERWRITES = {"zero_", "fill_", "copy_"}

_CHECKS = {"_amp_foreach_non_finite_check_and_unscale_": "found_inf"}
"""Arguments that report a failed check, by operator; in a dry run they keep their value."""


class Kind(Enum):
    """Relation of an operator's results to its arguments."""

    FRESH = "memory of their own"
    VIEW = "the first argument's memory"
    IN_PLACE = "the first argument itself"
    LIFTED = "a tensor that ``torch.tensor`` made of numbers"
    OTHER = "uncacheable"


_WITHOUT_DEVICE: dict[str, Any] = {"aten._pin_memory.default": lambda tensor, _device=None: tensor.clone()}
"""Functions that make the same values as an operator which a machine without a device cannot run."""


@dataclass(slots=True)
class Facts:
    """Facts about an operator.

    Attributes:
        kind: Relation of its results to its arguments.
        func: The operator.
        compute: What computes it: the operator, or a function that needs no device for the same values.
        computes: Whether it is computed where the values of all its arguments are known.
        made: Whether its result does not depend on the values of its arguments.
        takes_tensors: Whether it needs a tensor; programs may give it a number in its place.
        overwrites: Whether nothing of what was in its first argument is left.
        writes: Positions and names of the arguments that it writes to.
        looks: Whether a result's size, or a number that it returns, depends on values.
        reshapes: Whether it changes the shape of an argument.
        tensors: Whether it returns tensors.
        takes_dense: Whether it is a product whose result is dense, however its operands are stored.
        aliases: Whether a result may be a view of an argument.
        blank: Whether programs write to what it returns.
        allocates: Whether it makes or fills memory, as functions of PyTorch in C++ do where no mode sees them.
        product: Whether it multiplies and adds up.
        random: Whether it takes random numbers from a generator.
        needs_stored: Whether it matters to it how many elements a sparse tensor stores.
        name: Of its packet, without the namespace.
        asks_finite: Whether programs ask by it whether a number is finite.
        compares: Whether it compares a tensor with a number.
        ranged: Rule for the range of its result; None: it has none.
        info: Position of the result that says which of several matrices could not be factorized; None: there is none.
        switches: Positions, names and values of arguments, and their defaults, at which it takes no random numbers.
    """

    kind: Kind
    func: Any
    compute: Any = None
    computes: bool = False
    made: bool = False
    takes_tensors: bool = False
    overwrites: bool = False
    writes: tuple[tuple[int, str], ...] = ()
    looks: bool = False
    reshapes: bool = False
    tensors: bool = True
    takes_dense: bool = False
    aliases: bool = False
    blank: bool = False
    allocates: bool = False
    product: bool = False
    random: bool = False
    needs_stored: bool = False
    name: str = ""
    asks_finite: bool = False
    compares: bool = False
    ranged: RangeRule | None = None
    info: int | None = None
    switches: tuple[tuple[int, str, Any, Any], ...] = ()

    def is_off(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
        """Return whether a call takes no random numbers: at a dropout rate of 0, or in evaluation."""
        for i, name, off, default in self.switches:
            value = args[i] if i < len(args) else kwargs.get(name, default) if kwargs else default
            if value == off and value is not None:
                return True
        return False


def facts_of(func: Any, *, on_cuda: bool = False) -> Facts:
    """Read an operator's schema.

    Args:
        func: Operator.
        on_cuda: Whether it is one of CUDA for tensors on the CPU, where nothing may compute the same.
    """
    if not isinstance(func, OpOverload) or func.namespace == "prim" or str(func) in _RETURNS_ARGUMENTS:
        return Facts(Kind.OTHER, func)
    name = schema_of(func).name.split("::")[-1]
    arguments, returns = schema_of(func).arguments, schema_of(func).returns
    product = name in _MORE_PRODUCTS or any(part in name for part in _PRODUCTS)
    random = torch.Tag.nondeterministic_seeded in func.tags
    kind = _kind(func)
    writes = [(i, a.name) for i, a in enumerate(arguments) if is_written(func, a) and a.name != _CHECKS.get(name)]
    return Facts(
        kind,
        func,
        compute=_WITHOUT_DEVICE.get(str(func), func),
        computes=func.namespace in ("aten", "prims")
        and not name.startswith("empty")
        and name not in _SIZED_BY_VALUES | _READS_WORKSPACES | _CALLS_PRODUCTS
        and not (on_cuda and (str(func) in CORRECTED_ON_CUDA or not has_computed_kernel(func.name(), "CPU")))
        and not (random and name in MAKERS),
        made=name in _FACTORIES,
        takes_tensors=any(isinstance(a.type, torch.TensorType) for a in arguments),
        overwrites=name in _OVERWRITES,
        writes=() if name in _TURNS else tuple(writes),
        looks=bool(_LOOKS_AT_VALUES.intersection(func.tags)),
        reshapes=changes_shape(func) and name != "detach_",
        takes_dense=name in _DENSE_PRODUCTS,
        aliases=any(r.alias_info is not None and not r.alias_info.is_write for r in returns),
        blank=name in _FILLED or name.startswith(("full", "new_full", "empty", "clone")),
        allocates=random or name in {"empty", "new_empty", "set_", "copy_"},
        product=product,
        random=random,
        needs_stored=product or name in _ABOUT_STORED,
        asks_finite=func in FINITE_CHECKS,
        compares=func in COMPARISONS,
        ranged=range_rule_of(func),
        info=next((i for i, r in enumerate(returns) if r.name == "info"), None),
        tensors=any("Tensor" in str(r.type) for r in returns),
        name=name,
        switches=() if kind is Kind.IN_PLACE else tuple(_switches(arguments)),
    )


def _switches(arguments: Iterable[Any]) -> Iterator[tuple[int, str, Any, Any]]:
    for i, argument in enumerate(arguments):
        if argument.name in _RATES:
            yield i, argument.name, 0.0, argument.default_value
        elif argument.name in {"train", "training"}:
            yield i, argument.name, False, argument.default_value


def may_be_computed(facts: Facts, found: list[Tensor]) -> bool:
    """Return whether an operator is computed if the values of these arguments are known."""
    return (
        bool(found or facts.takes_tensors)
        and facts.computes
        and not (facts.reshapes or facts.aliases or facts.kind is Kind.VIEW)
        and all(type(t) is DryTensor or stands_for_data(type(t)) for t in found)
    )


def returns_data(facts: Facts, given: Iterable[Tensor], *, dataless: bool) -> bool:
    """Return whether an operator is a layer that is not computed: of a model without its data, or on an accelerator.

    On an accelerator its result would not be the CPU's to the bit.
    """
    return facts.product and any((dataless or t.device.type != "cpu") and is_of_a_parameter(t) for t in given)


def stands_for_input(func: Any, dtype: Any) -> bool:
    """Return whether the result of a factory may stand for data, whose values a dry run does not know."""
    return bool(dtype.is_floating_point or dtype.is_complex) and "ones" in schema_of(func).name


def _kind(func: Any) -> Kind:
    if func is torch.ops.aten.lift_fresh.default:
        return Kind.LIFTED
    if _LOOKS_AT_VALUES.intersection(func.tags) or schema_of(func).name in _BY_GRAD_MODE:
        return Kind.OTHER
    arguments, returns = schema_of(func).arguments, schema_of(func).returns
    aliased = [i for i, argument in enumerate(arguments) if argument.alias_info is not None]
    results = [r.alias_info for r in returns]
    if not aliased and returns and not any(results):
        return Kind.FRESH
    if aliased != [0] or len(results) != 1 or results[0] is None or changes_shape(func):
        return Kind.OTHER
    return Kind.IN_PLACE if results[0].is_write else Kind.VIEW
