"""Quantized operators: the products that they stand for, and two operations to quantize or dequantize a number.

An 8-bit multiply-accumulate is a multiply-accumulate. Packed weights are asked for their sizes; a linear layer's follow
from its input and output. Elementwise, norm and pooling operators cost what their counterparts do; requantizing inside
of an operator is part of it, and not counted. Packing and unpacking weights is free; see `free`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch

from opcount.cost import Cost
from opcount.formulas.sizes import per_input, per_output, register, scalars
from opcount.registry import OperatorNames, aten
from opcount.registry import builtin as formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

quantized = OperatorNames("quantized")
_quantized = OperatorNames("_quantized")
onednn = OperatorNames("onednn")
sparse = OperatorNames("sparse")
bitsandbytes = OperatorNames("bitsandbytes")


@formula(
    quantized.linear,
    quantized.linear_relu,
    quantized.linear_leaky_relu,
    quantized.linear_tanh,
    quantized.linear_dynamic,
    quantized.linear_relu_dynamic,
    quantized.linear_dynamic_fp16,
    quantized.linear_relu_dynamic_fp16,
    quantized.linear_dynamic_fp16_unpacked_weight,
    quantized.linear_with_input_q_dq_qweight_dq_output_fp32,
    quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32,
    quantized.int4mm_packed_weight_cpu,
    quantized.matmul,
    _quantized.linear,
    _quantized.linear_dynamic,
    _quantized._wrapped_quantized_linear_prepacked,
    _quantized.wrapped_fbgemm_linear_fp16_weight,
    _quantized.wrapped_quantized_linear,
    onednn.qlinear_pointwise,
    onednn.linear_dynamic_fp16,
    onednn.linear_relu_dynamic_fp16,
)
def linear(out: Tensor, x: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[..., n] = sum(x[..., k] * weight[n, k] for k)``, on 8-bit or half numbers."""
    outputs = out.numel()
    return Cost(outputs * x.shape[-1], 0, outputs)


@formula(sparse.qlinear, sparse.qlinear_relu, sparse.qlinear_dynamic, sparse.qlinear_relu_dynamic)
def block_sparse_linear(out: Tensor, X: Tensor, W_prepack: Any) -> Cost:
    """``out[..., n] = sum(x[..., k] * weight[n, k] for stored weight[n, k])``."""
    weight = torch.ops.sparse.qlinear_unpack(W_prepack)[0]
    return Cost(int(weight.count_nonzero()) * (X.numel() // X.shape[-1]), 0, out.numel())


@formula(
    *(
        f"{namespace}.conv{rank}d{suffix}"
        for namespace in ("quantized", "_quantized")
        for rank in (1, 2, 3)
        for suffix in ("", "_relu", "_dynamic")
    )
)
def conv(out: Tensor, _x: Tensor, packed: Any, /, *_: object, **__: object) -> Cost:
    """A convolution on 8-bit numbers: the products of one window for each output element."""
    outputs = out.numel()
    return Cost(outputs * prod(packed.unpack()[0].shape[1:]), 0, outputs)


@formula(quantized.conv2d_add, quantized.conv2d_add_relu)
def conv_add(out: Tensor, packed_weight: Any) -> Cost:
    """A convolution on 8-bit numbers, added to what is there."""
    outputs = out.numel()
    return Cost(outputs * prod(packed_weight.unpack()[0].shape[1:]), outputs, outputs)


@formula(
    *(
        f"{namespace}.conv_transpose{rank}d{suffix}"
        for namespace in ("quantized", "_quantized")
        for rank in (1, 2, 3)
        for suffix in ("", "_dynamic")
    )
)
def conv_transpose(out: Tensor, x: Tensor, packed: Any, /, *_: object, **__: object) -> Cost:
    """A transposed convolution on 8-bit numbers: the products of one window for each input element."""
    return Cost(x.numel() * prod(packed.unpack()[0].shape[1:]), 0, out.numel())


@formula(onednn.qconv_pointwise, onednn.qconv1d_pointwise, onednn.qconv2d_pointwise, onednn.qconv3d_pointwise)
def onednn_conv(out: Tensor, qw: Tensor) -> Cost:
    """A convolution on 8-bit numbers: the products of one window for each output element."""
    outputs = out.numel()
    return Cost(outputs * prod(qw.shape[-(out.dim() - 1) :]), 0, outputs)


@formula(bitsandbytes.gemv_4bit)
def four_bit_product(_out: object, x: Tensor, _packed: Tensor, shape: Sequence[int], /, *_: Any, **__: Any) -> Cost:
    """``out[..., n] = sum(x[..., k] * weight[n, k] for k)``, on weights of four bits whose shape is given.

    Weights are made numbers inside, which is not counted. bitsandbytes 0.46 to 0.50 (``_ops.py``).
    """
    outputs = x.numel() // x.shape[-1] * shape[0]
    return Cost(outputs * x.shape[-1], 0, outputs)


@formula(bitsandbytes.gemm_4bit)
def four_bit_linear(out: Tensor, x: Tensor, packed: Tensor, shape: Sequence[int], /, *args: Any, **_: Any) -> Cost:
    """As `four_bit_product`, and one for each output element for a bias."""
    bias = len(args) > 3 and args[3] is not None
    return four_bit_product(out, x, packed, shape) + Cost(0, out.numel() * bias)


@formula(bitsandbytes.int8_linear_matmul)
def int8_product(_out: object, x: Tensor, weight: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[..., n] = sum(x[..., k] * weight[n, k] for k)``, on 8-bit numbers."""
    outputs = x.numel() // x.shape[-1] * weight.shape[0]
    return Cost(outputs * x.shape[-1], 0, outputs)


@formula(bitsandbytes.int8_mm_dequant)
def int8_dequantize(out: Tensor, *args: Any, **_: object) -> Cost:
    """``out = x * row_scale * column_scale + bias``: two operations for each output element, one more for a bias."""
    return Cost(0, out.numel() * (2 + (len(args) > 4 and args[4] is not None)))


@formula(bitsandbytes.int8_scaled_mm)
def int8_linear(out: Tensor, x: Tensor, weight: Tensor, *args: Any, **_: object) -> Cost:
    """The product, and two operations for each output element to scale it, one more for a bias."""
    bias = len(args) > 2 and args[2] is not None
    return int8_product(out, x, weight) + Cost(0, out.numel() * (2 + bias))


@formula(bitsandbytes.int8_mixed_scaled_mm)
def int8_mixed(out: tuple[Tensor, Any], _x: Tensor, quantized_x: Tensor, weight: Tensor, *args: Any, **_: Any) -> Cost:
    """As `int8_linear`, and a product of the columns that are kept in half numbers. LLM.int8 (arXiv 2208.07339)."""
    columns, bias = (*args[2:4], None, None)[:2]
    kept = 0 if columns is None else columns.numel()
    outputs = out[0].numel()
    return int8_linear(out[0], quantized_x, weight, None, None, bias) + Cost(outputs * kept)


@formula(quantized.embedding_bag_byte, quantized.embedding_bag_4bit, quantized.embedding_bag_2bit)
def embedding_bag(out: Tensor, _packed: Any, indices: Tensor, /, *_: object, **__: object) -> Cost:
    """``out[bag] = sum(scale[i] * weight[i] + bias[i] for i in bag)``: three operations for each element of a row."""
    return Cost(0, 3 * indices.numel() * out.shape[-1], 0)


@formula(
    quantized.embedding_bag_byte_rowwise_offsets,
    quantized.embedding_bag_4bit_rowwise_offsets,
    quantized.embedding_bag_2bit_rowwise_offsets,
)
def embedding_bag_rowwise(out: Tensor, indices: Tensor) -> Cost:
    """``out[bag] = sum(scale[i] * weight[i] + bias[i] for i in bag)``: three operations for each element of a row."""
    return Cost(0, 3 * indices.numel() * out.shape[-1], 0)


@formula(quantized.max_pool1d, quantized.max_pool2d)
@formula(aten.quantized_max_pool1d, aten.quantized_max_pool2d, aten.quantized_max_pool3d)
def max_pool(out: Tensor, kernel_size: list[int]) -> Cost:
    """The largest number of each window: one comparison for each of its elements."""
    return Cost(0, out.numel() * prod(kernel_size), 0)


def _spelled(namespace: str, names: str) -> list[str]:
    return [f"{namespace}.{name}" for name in names.split()]


_ARITHMETIC = " ".join(f"{op}{kind}{relu}{out}" for op in ("add", "mul") for kind in ("", "_scalar")
                       for relu in ("", "_relu") for out in ("", "_out"))  # fmt: skip
_ACTIVATIONS = "celu clamp elu hardswish leaky_relu prelu relu6 sigmoid threshold cat_relu cat_relu_out"
_QUANTIZE = "quantize_per_tensor quantize_per_tensor_dynamic quantize_per_channel dequantize"
_FAKE = """
fake_quantize_per_tensor_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
fake_quantize_per_channel_affine_cachemask _fake_quantize_learnable_per_tensor_affine
_fake_quantize_learnable_per_channel_affine
"""
_OBSERVED = "_fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional"
_LEARNED = """
_fake_quantize_learnable_per_tensor_affine_backward _fake_quantize_learnable_per_channel_affine_backward
"""
_BATCH_NORMS = "batch_norm batch_norm1d batch_norm2d batch_norm3d batch_norm_relu batch_norm1d_relu batch_norm2d_relu"
_NORMS = "layer_norm group_norm instance_norm"

register("quantized", per_output(1), _spelled("quantized", f"{_ARITHMETIC} {_ACTIVATIONS}"))
register("quantized", per_output(1), ["_quantized.add", *_spelled("onednn", "qadd qadd_relu qmul")])
register("quantized", per_output(2), _spelled("quantized", f"{_BATCH_NORMS} batch_norm3d_relu"))
register("quantized", per_output(2), ["aten.quantized_batch_norm", "onednn.qbatch_norm2d"])
register("quantized", per_output(5), _spelled("quantized", f"{_NORMS} softmax"))
register("quantized", per_output(2), _spelled("aten", _QUANTIZE))  # a product with the scale, and the zero point
register("quantized", per_output(2), ["static_runtime.dequantize_copy", "quantized.embedding_byte"])
register("quantized", per_output(2), ["quantized.embedding_4bit", "quantized.embedding_2bit"])
register("quantized", per_output(6), _spelled("aten", _FAKE))  # quantize, clamp from both sides, dequantize
register("quantized", per_output(8), _spelled("aten", _OBSERVED))  # and look for the smallest and the largest
register("quantized", per_output(8), _spelled("aten", _LEARNED))  # and take the scale's and zero point's gradients
register("quantized", per_input(1), _spelled("quantization", "_Bfloat16QuantizedToFloat _FloatToBfloat16Quantized"))


def bits_dequantize(out: Any, *args: Any, **_: object) -> Cost:
    """``out = code[x] * scale[block]``: a product for each number; ``code`` is a table."""
    return Cost(0, scalars(args[-1] if out is None else out))


def bits_quantize(_out: Any, x: Tensor, *_: Any, **__: object) -> Cost:
    """The largest of each row or block, then a quotient and the nearest code: three operations for each number."""
    return Cost(0, 3 * x.numel())


register("quantized", bits_dequantize, _spelled("bitsandbytes", "dequantize_4bit dequantize_blockwise"))
register("quantized", per_input(2), ["bitsandbytes.int8_vectorwise_dequant"])
register("quantized", bits_quantize, _spelled("bitsandbytes", "quantize_4bit quantize_blockwise int8_vectorwise_quant"))
register("quantized", per_input(6), ["bitsandbytes.int8_double_quant"])  # by rows, and by columns
