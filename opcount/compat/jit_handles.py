"""A drop-in for ``fvcore.nn.jit_handles``: handles to pass on, and what to make handles of.

The analyses of `opcount.compat.fvcore` do not need them: they price operators by the formulas of opcount. A handle
reads the values that these analyses give it, and those of a graph traced by ``torch.jit.trace``.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from opcount.compat.handles import Handle
from opcount.counter import OpCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    Values = Sequence[Any]

__all__ = [
    "FLOP_HANDLES",
    "Handle",
    "addmm_flop_jit",
    "batchnorm_flop_jit",
    "bmm_flop_jit",
    "conv_flop_count",
    "conv_flop_jit",
    "einsum_flop_jit",
    "elementwise_flop_counter",
    "generic_activation_jit",
    "get_shape",
    "linear_flop_jit",
    "matmul_flop_jit",
    "norm_flop_counter",
]


def get_shape(val: Any) -> list[int] | None:
    """Return the shape of a value; None for what is no tensor."""
    return val.type().sizes() if val.isCompleteTensor() else None


def _elements(value: Any) -> int:
    return prod(get_shape(value) or ())


def _last(value: Any) -> int:
    return (get_shape(value) or [1])[-1]


def generic_activation_jit(op_name: str | None = None) -> Handle:
    """Return a handle that counts the elements of the output, under a name if one is given."""

    def handle(_inputs: Values, outputs: Values) -> Any:
        elements = _elements(outputs[0])
        return elements if op_name is None else Counter({op_name: elements})

    return handle


def elementwise_flop_counter(input_scale: float = 1, output_scale: float = 0) -> Handle:
    """Return a handle that counts so much for each element of the first input, and of the first output."""

    def handle(inputs: Values, outputs: Values) -> float:
        of_input = input_scale * _elements(inputs[0]) if input_scale else 0
        return of_input + (output_scale * _elements(outputs[0]) if output_scale else 0)

    return handle


def norm_flop_counter(affine_arg_index: int) -> Handle:
    """Return a handle that counts 5 for each element of the input, and 4 where the argument at that place is None."""

    def handle(inputs: Values, _outputs: Values) -> int:
        return _elements(inputs[0]) * (4 if get_shape(inputs[affine_arg_index]) is None else 5)

    return handle


def batchnorm_flop_jit(inputs: Values, outputs: Values) -> Any:
    """Count ``aten::batch_norm``: in training as any norm; in eval a scale and a shift, or one of them."""
    if inputs[5].toIValue():
        return norm_flop_counter(1)(list(inputs), list(outputs))
    return _elements(inputs[0]) * (1 if get_shape(inputs[1]) is None else 2)


def addmm_flop_jit(inputs: Values, outputs: Values) -> int:
    """Count ``aten::addmm``: one product of length ``k`` for each element of the output."""
    return _elements(outputs[0]) * _last(inputs[1])


def linear_flop_jit(inputs: Values, outputs: Values) -> int:
    """Count ``aten::linear``: one product of length ``k`` for each element of the output."""
    return _elements(outputs[0]) * _last(inputs[0])


def bmm_flop_jit(inputs: Values, outputs: Values) -> int:
    """Count ``aten::bmm``: one product of length ``k`` for each element of the output."""
    return _elements(outputs[0]) * _last(inputs[0])


def matmul_flop_jit(inputs: Values, outputs: Values) -> int:
    """Count ``aten::matmul`` and ``aten::mm``: one product of length ``k`` for each element of the output.

    fvcore forgets the batch of the second operand, and refuses vectors.
    """
    return _elements(outputs[0]) * _last(inputs[0])


def einsum_flop_jit(inputs: Values, _outputs: Values) -> int:
    """Count ``aten::einsum`` as the products that it becomes."""
    shapes = [get_shape(value) or [] for value in inputs[1].node().inputs()]
    with OpCounter() as counter, torch.no_grad():
        torch.einsum(inputs[0].toIValue(), *(torch.empty(shape, device="meta") for shape in shapes))
    return counter.macs


def conv_flop_count(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    out_shape: Sequence[int],
    transposed: bool = False,  # noqa: FBT001, FBT002  (the reference's signature)
) -> int:
    """Count a convolution: the elements of its output, of its input if transposed, times those of a kernel for each.

    Example:
        >>> conv_flop_count([1, 3, 10, 10], [10, 3, 1, 1], [1, 10, 10, 10])
        3000
    """
    return prod(x_shape if transposed else out_shape) * prod(w_shape[1:])


def conv_flop_jit(inputs: Values, outputs: Values) -> Counter[str]:
    """Count ``aten::_convolution``, as ``conv``."""
    shapes = [get_shape(value) or [] for value in (inputs[0], inputs[1], outputs[0])]
    return Counter(conv=conv_flop_count(shapes[0], shapes[1], shapes[2], inputs[6].toIValue()))


FLOP_HANDLES: dict[str, Handle] = {
    "aten::_convolution": conv_flop_jit,
    "aten::adaptive_avg_pool2d": elementwise_flop_counter(1, 0),
    "aten::addmm": addmm_flop_jit,
    "aten::batch_norm": batchnorm_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::einsum": einsum_flop_jit,
    "aten::grid_sampler": elementwise_flop_counter(0, 4),
    "aten::group_norm": norm_flop_counter(2),
    "aten::instance_norm": norm_flop_counter(1),
    "aten::layer_norm": norm_flop_counter(2),
    "aten::linear": linear_flop_jit,
    "aten::matmul": matmul_flop_jit,
    "aten::mm": matmul_flop_jit,
    "aten::upsample_bilinear2d": elementwise_flop_counter(0, 4),
    "aten::upsample_nearest2d": elementwise_flop_counter(0, 1),
}
"""The operators that fvcore counts FLOPs of."""
