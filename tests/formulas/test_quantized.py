"""Quantized operators count the products of the float ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from opcount.cost import Cost
from opcount.registry import BUILTIN
from tests.formulas.seen import seen

pytestmark = pytest.mark.filterwarnings("ignore")
ops = torch.ops.quantized


def quantize(x, dtype=torch.quint8):
    return torch.quantize_per_tensor(x, 0.1, 0, dtype)


def total(function, *args, **kwargs):
    cost = seen(function, *args, **kwargs).total
    return cost.macs, cost.activations


@pytest.mark.parametrize("groups", [1, 2])
def test_a_static_convolution_counts_as_the_float_one(groups):
    x, weight = torch.randn(2, 4, 7, 7), torch.randn(6, 4 // groups, 3, 3)
    packed = ops.conv2d_prepack(quantize(weight, torch.qint8), None, [2, 2], [1, 1], [1, 1], groups)
    expected = total(functional.conv2d, x, weight, None, 2, 1, 1, groups)
    assert total(ops.conv2d.new, quantize(x), packed, 0.1, 0) == expected
    assert total(ops.conv2d_relu.new, quantize(x), packed, 0.1, 0) == expected


def test_a_static_convolution_in_one_dimension_counts_as_the_float_one():
    x, weight = torch.randn(2, 4, 9), torch.randn(6, 4, 3)
    packed = ops.conv1d_prepack(quantize(weight, torch.qint8), None, [1], [0], [1], 1)
    assert total(ops.conv1d, quantize(x), packed, 0.1, 0) == total(functional.conv1d, x, weight)


def test_a_transposed_convolution_counts_as_the_float_one():
    x, weight = torch.randn(2, 4, 5, 5), torch.randn(4, 6, 3, 3)
    packed = ops.conv_transpose2d_prepack(quantize(weight, torch.qint8), None, [2, 2], [0, 0], [0, 0], [1, 1], 1)
    expected = total(functional.conv_transpose2d, x, weight, None, 2)
    assert total(ops.conv_transpose2d, quantize(x), packed, 0.1, 0) == expected


def test_static_and_dynamic_linear_layers_count_as_the_float_one():
    x, weight = torch.randn(2, 3, 8), torch.randn(5, 8)
    packed = ops.linear_prepack(quantize(weight, torch.qint8), None)
    expected = total(functional.linear, x, weight)
    assert total(ops.linear, quantize(x), packed, 0.1, 0) == expected
    assert total(ops.linear_dynamic, x, packed) == expected
    assert total(ops.linear_dynamic_fp16, x, ops.linear_prepack_fp16(weight, None)) == expected


def test_packing_is_free():
    counted = seen(ops.linear_prepack, quantize(torch.randn(5, 8), torch.qint8), None)
    assert counted.families["quantized.linear_prepack.default"] == "free"


def test_quantizing_multiplies_and_shifts():
    x = torch.randn(4, 5)
    q = quantize(x)
    assert seen(torch.quantize_per_tensor, x, 0.1, 0, torch.quint8).total.arith == 2 * x.numel()
    assert seen(q.dequantize).total.arith == 2 * x.numel()


def bitsandbytes(name, out, *args):
    return BUILTIN.find([f"bitsandbytes.{name}"])[0].price(out, *args)


def test_products_of_bitsandbytes_count_what_they_stand_for():
    x, out = torch.rand(2, 3, 8), torch.rand(2, 3, 5)
    packed, scales = torch.zeros(20, 1, dtype=torch.uint8), torch.ones(1)
    product = Cost(2 * 3 * 5 * 8, 0, 2 * 3 * 5)
    assert bitsandbytes("gemv_4bit", out, x, packed, [5, 8], scales, scales, 64) == product
    assert bitsandbytes("gemv_4bit", None, x, packed, [5, 8], scales, scales, 64, out) == product  # into a tensor
    bias = torch.rand(5)
    assert bitsandbytes("gemm_4bit", out, x, packed, [5, 8], scales, 64, "nf4") == product
    assert bitsandbytes("gemm_4bit", out, x, packed, [5, 8], scales, 64, "nf4", bias) == product + Cost(0, out.numel())
    eight = (x.to(torch.int8), torch.zeros(5, 8, dtype=torch.int8))
    assert bitsandbytes("int8_linear_matmul", out, *eight) == product
    assert bitsandbytes("int8_linear_matmul", None, *eight, out) == product
    parts = product + bitsandbytes("int8_mm_dequant", out, out, scales, scales, None, bias)
    assert bitsandbytes("int8_scaled_mm", out, *eight, scales, scales, bias) == parts
    kept = torch.tensor([1, 6])
    mixed = bitsandbytes("int8_mixed_scaled_mm", (out, None), x, *eight, scales, scales, kept, bias)
    assert mixed == parts + Cost(2 * 3 * 5 * 2)


def test_bitsandbytes_counts_one_for_a_number_from_a_table_and_three_to_find_it_there():
    x = torch.rand(4, 8)
    assert bitsandbytes("dequantize_4bit", x, x, x, 64, "nf4", [4, 8], torch.float) == Cost(0, 32)
    assert bitsandbytes("dequantize_4bit", None, x, x, 64, "nf4", [4, 8], torch.float, x) == Cost(0, 32)
    assert bitsandbytes("quantize_4bit", (x, x), x, 64, "nf4", torch.uint8) == Cost(0, 3 * 32)
    assert bitsandbytes("int8_vectorwise_quant", (x, x, None), x, 0.0) == Cost(0, 3 * 32)
