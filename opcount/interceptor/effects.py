"""Effects of operators on memory: they read, write, copy or only allocate it."""

from __future__ import annotations

from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount._torch.dispatch import has_kernel, is_written, schema_of
from opcount.formulas.free import FREE_NAMESPACES
from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class EffectKind(Enum):
    """Way in which an operator makes its results."""

    __hash__ = object.__hash__  # that of an Enum takes longer

    BLANK = auto()
    """Allocates, and leaves in it whatever was there."""
    CONSTANT = auto()
    """Fills memory with one number."""
    FRESH = auto()
    """Makes numbers out of none: random ones, a range."""
    COPY = auto()
    """Moves the numbers that it is given."""
    QUESTION = auto()
    """Looks at the shape of what it is given."""
    WORK = auto()
    """Computes."""


_BLANK = """
_empty_affine_quantized _empty_per_channel_affine_quantized empty empty_like empty_permuted empty_quantized
empty_strided new_empty new_empty_strided resize resize_as
"""
_CONSTANT = """
_efficientzerotensor _foreach_zero _new_zeros_with_same_feature_meta fill full full_like new_full new_ones new_zeros
ones ones_like scalar_tensor zero zeros zeros_like
"""
_FRESH = """
_cudnn_init_dropout_state _fill_mem_eff_dropout_mask _philox_normal _philox_uniform arange bartlett_window bernoulli
blackman_window cauchy exponential eye fft_fftfreq fft_rfftfreq from_file geometric hamming_window hann_window
kaiser_window linspace log_normal logspace multinomial normal normal_functional poisson rand rand_like randint
randint_like randn randn_like random randperm range tril_indices triu_indices uniform
"""
_READS = {"_local_scalar_dense", "item"}
_KINDS = {
    name: kind
    for kind, names in ((EffectKind.BLANK, _BLANK), (EffectKind.CONSTANT, _CONSTANT), (EffectKind.FRESH, _FRESH))
    for name in names.split()
}
_FILLERS = {
    **dict.fromkeys("zero_ zeros zeros_like new_zeros".split(), 0),
    **dict.fromkeys("ones ones_like new_ones".split(), 1),
    **dict.fromkeys("fill_ full full_like".split(), "1"),
    "new_full": "2",
    "scalar_tensor": "0",
}
_WHOLE = {"copy_", "fill_", "zero_"}


class Effect(NamedTuple):
    """Effect of the calls of one operator.

    Attributes:
        kind: How results are made.
        written: Positions and names of the arguments that are written; None: nobody knows, so none is read unwritten.
        updated: Those of them that are read before they are written.
        overwrites: Whether it is filled to its last element with what it is given.
        scaled: Whether a ``beta`` of 0 leaves the first argument unread.
        masked: Whether an ``output_mask`` says that only shapes of the second or third argument are asked for.
        plain: Whether results are the numbers of one argument, element by element.
        filler: Where the number stands that results are filled with; an int: that number.
        views: Whether results are the memory of what is given, and nothing is written.
        computes: Whether results are computed in memory of their own, and nothing else is written.
    """

    kind: EffectKind
    written: frozenset[int | str] | None
    updated: frozenset[int | str] = frozenset()
    overwrites: bool = False
    scaled: bool = False
    masked: bool = False
    plain: bool = False
    filler: str | int | None = None
    views: bool = False
    computes: bool = False

    def constant(self, args: tuple[Any, ...]) -> Any:
        """Return the number that a call fills its results with; None if that cannot be told."""
        if not isinstance(self.filler, str):
            return self.filler
        place = int(self.filler)
        value = args[place] if place < len(args) else None
        return value if isinstance(value, (int, float, complex)) else None

    def split(self, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tensors that a call reads, and those that it writes."""
        if self.written is None:
            return [], list(tensors((out, *args, *kwargs.values())))
        read: list[Tensor] = []
        written: list[Tensor] = []
        for place, value in (*enumerate(args), *kwargs.items()):
            found = list(tensors((value,)))
            if place in self.written:
                written += found
                if place not in self.updated:
                    continue
            if place == 0 and self.scaled and kwargs.get("beta", 1) == 0:
                continue
            if self.masked and place in {1, 2} and not kwargs.get("output_mask", args[-1])[place % 2]:
                continue  # transforms of torch.func pass uninitialised memory for it
            read += found
        return read, written


def is_blank(operator: str) -> bool:
    """Return whether an operator leaves memory uninitialised."""
    namespace, _, rest = operator.partition(".")
    return namespace == "aten" and _kind(rest.partition(".")[0]) is EffectKind.BLANK


@cache
def effect_of(operator: str, free: bool) -> Effect:  # noqa: FBT001
    """Return what the calls of an operator do, which its plan declares free or prices."""
    namespace, _, rest = operator.partition(".")
    packet = rest.partition(".")[0]
    if namespace not in {"aten", "prims"}:
        packs = free and namespace not in FREE_NAMESPACES
        return Effect(EffectKind.COPY if packs else EffectKind.WORK, frozenset() if packs else None)
    kind = _kind(packet) if free else EffectKind.WORK
    arguments = list(_written(operator))
    func = _overload(operator)
    aliases = [r.alias_info for r in schema_of(func).returns]
    return Effect(
        kind,
        frozenset(place for pair in arguments for place in pair),
        updated=frozenset(
            place
            for position, name in arguments
            if not free and (position == 0 or name.startswith("running_"))
            for place in (position, name)
        ),
        overwrites=packet in _WHOLE,
        scaled=packet.rstrip("_") in {"addmm", "baddbmm", "addmv", "addr", "addbmm", "sspaddmm"},
        masked=packet == "convolution_backward",
        plain=packet in {"clone", "_to_copy", "copy_"},
        filler=_FILLERS.get(packet),
        computes=kind is EffectKind.WORK and not arguments and not any(aliases),
        views=not arguments and bool(aliases) and all(aliases) and not _may_copy(func),
    )


def _kind(packet: str) -> EffectKind:
    name = packet.removesuffix("_") if not packet.endswith("__") else packet
    if packet in _READS:
        return EffectKind.WORK
    return _KINDS.get(name) or (EffectKind.QUESTION if name.startswith(("is_", "_has_same")) else EffectKind.COPY)


def _written(operator: str) -> Iterator[tuple[int, str]]:
    func = _overload(operator)
    for position, argument in enumerate(schema_of(func).arguments):
        if is_written(func, argument):
            yield (-1 if argument.kwarg_only else position), argument.name


def _overload(operator: str) -> Any:
    namespace, packet, overload = operator.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def _may_copy(func: Any) -> bool:
    """Return whether a view may be a copy: so it is with composite operators, such as ``contiguous``."""
    return bool(has_kernel(func.name(), "CompositeImplicitAutograd"))
