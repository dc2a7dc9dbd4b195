"""Handles of mmengine, ``handle(inputs, outputs) -> number or Counter``, as formulas of opcount.

A handle was written for the values of a traced graph. Here it gets objects that answer the same questions about real
tensors and arguments: ``isCompleteTensor()``, ``type().sizes()``, ``toIValue()``, ``node().inputs()``. The arguments,
however, are those of the operator that reaches a dispatcher: ``aten::softmax`` arrives as ``aten::_softmax``, for one.
Where the arguments keep their places, the name is translated (`_ARRIVES_AS`). ``aten::linear``, ``aten::matmul`` and
``aten::einsum`` become products with other arguments: a handle belongs on ``aten::addmm``, ``aten::mm``, ``aten::bmm``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import FormulaError

if TYPE_CHECKING:
    from opcount.cost import Cost

Handle = Callable[[list[Any], list[Any]], Any]

_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
_ARRIVES_AS: dict[str, tuple[str, ...]] = {
    "_convolution": ("convolution", "_convolution"),
    "batch_norm": ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
    "layer_norm": ("native_layer_norm",),
    "group_norm": ("native_group_norm",),
    "softmax": ("_softmax",),
    "log_softmax": ("_log_softmax",),
    "adaptive_avg_pool2d": ("_adaptive_avg_pool2d",),
    "adaptive_avg_pool3d": ("_adaptive_avg_pool3d",),
    "grid_sampler": ("grid_sampler_2d", "grid_sampler_3d"),
    "max_pool2d": ("max_pool2d_with_indices",),
    "max_pool3d": ("max_pool3d_with_indices",),
    "scaled_dot_product_attention": _ATTENTION,
}
CALLED_AS = {packet: name for name, packets in _ARRIVES_AS.items() for packet in packets}
"""The name in a traced graph of what arrives under another."""

_BECOMES_PRODUCTS = ("linear", "matmul", "einsum", "tensordot", "inner", "bilinear")


class Value:
    """One argument or output, with the questions that a handle asks of a value in a traced graph.

    What asks of a tensor's type answers None for anything else.
    """

    def __init__(self, value: object) -> None:
        self._value = value

    def isCompleteTensor(self) -> bool:  # noqa: N802  (the name in torch._C.Value)
        """Tell whether this is a tensor."""
        return isinstance(self._value, torch.Tensor)

    def type(self) -> Value:
        """Return what answers `sizes`, `dim`, `dtype`, `scalarType` and `kind`."""
        return self

    def sizes(self) -> list[int] | None:
        """Return the shape."""
        return list(self._value.shape) if isinstance(self._value, torch.Tensor) else None

    def dim(self) -> int | None:
        """Return the rank."""
        return self._value.dim() if isinstance(self._value, torch.Tensor) else None

    def dtype(self) -> torch.dtype | None:
        """Return the dtype."""
        return self._value.dtype if isinstance(self._value, torch.Tensor) else None

    def scalarType(self) -> str | None:  # noqa: N802  (the name in torch._C.TensorType)
        """Return the dtype by its name in C++, ``"Float"``."""
        return (
            self._value.type().split(".")[-1].removesuffix("Tensor") if isinstance(self._value, torch.Tensor) else None
        )

    def kind(self) -> str:
        """Return ``"TensorType"``, or the name of the class of anything else."""
        return "TensorType" if isinstance(self._value, torch.Tensor) else type(self._value).__name__

    def toIValue(self) -> object:  # noqa: N802  (the name in torch._C.Value)
        """Return the argument itself."""
        return self._value

    def node(self) -> Value:
        """Return what answers `inputs`: the elements of a list."""
        return self

    def inputs(self) -> Iterator[Value]:
        """Yield the elements of a list; nothing of anything else."""
        if isinstance(self._value, (list, tuple)):
            yield from map(Value, self._value)


def arrivals(name: str) -> tuple[str, ...]:
    """Return the packets that an operator of a traced graph arrives as.

    Example:
        >>> arrivals("aten::softmax"), arrivals("aten::gelu")
        (('aten._softmax',), ('aten.gelu',))
    """
    namespace, _, packet = name.rpartition("::")
    namespace = namespace or "aten"
    if namespace != "aten":
        return (f"{namespace}.{packet}",)
    return tuple(f"aten.{target}" for target in _ARRIVES_AS.get(packet, (packet,)))


def formulas_of(
    handles: Mapping[str, Handle], to_cost: Callable[[int], Cost], words: dict[str, str]
) -> dict[str, Callable[..., Cost]]:
    """Return one formula for every overload that a handle prices.

    Args:
        handles: By the operator's name in a traced graph, ``"aten::gelu"``.
        to_cost: Makes the number that a handle returns a cost.
        words: Filled, as operators run, with the names that their numbers go under.

    Raises:
        FormulaError: There is no such operator, or it arrives as others with other arguments.
    """
    formulas: dict[str, Callable[..., Cost]] = {}
    for name, handle in handles.items():
        overloads = [overload for packet in arrivals(name) for overload in _overloads(packet)]
        if not overloads or name.rpartition("::")[2] in _BECOMES_PRODUCTS:
            raise _unusable(name, handle)
        for overload in overloads:
            formulas[str(overload)] = _formula(handle, overload, name.rpartition("::")[2], to_cost, words)
    return formulas


def _overloads(packet: str) -> list[Any]:
    namespace, _, name = packet.rpartition(".")
    found: Any = getattr(getattr(torch.ops, namespace, None), name, None)
    return [getattr(found, overload) for overload in found.overloads()] if hasattr(found, "overloads") else []


def _unusable(name: str, handle: Handle) -> FormulaError:
    return FormulaError(
        f"set_op_handle: expected an operator that reaches a dispatcher, got {name!r} for {handle!r}. "
        f"Set a handle for what it becomes, such as 'aten::addmm', 'aten::mm' and 'aten::bmm', or register a formula "
        f"with @opcount.formula."
    )


def _formula(
    handle: Handle, overload: Any, simple: str, to_cost: Callable[[int], Cost], words: dict[str, str]
) -> Callable[..., Cost]:
    def price(out: object, /, *args: object, **kwargs: object) -> Cost:
        """What a handle says."""
        inputs = list(map(Value, complete(overload, args, kwargs)))
        outputs = list(map(Value, out if isinstance(out, (tuple, list)) else (out,)))
        priced = handle(inputs, outputs)
        named = priced if isinstance(priced, Mapping) else {simple: priced}
        words[str(overload)] = next(iter(named)) if len(named) == 1 else simple
        return to_cost(round(sum(named.values())))

    return price


def complete(overload: Any, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
    """Return every argument in the order of the schema, defaults included, as a traced graph has them."""
    rest = overload._schema.arguments[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]
