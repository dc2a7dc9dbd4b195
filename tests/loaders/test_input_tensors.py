from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount.errors import InputError
from opcount.loaders.input_tensors import check_shape, image_shape, random_inputs
from opcount.loaders.request import Request


@pytest.mark.parametrize(
    ("sizes", "default", "expected"),
    [
        ([], (3, 224, 224), (3, 224, 224)),
        ([256], (3, 224, 224), (3, 256, 256)),
        ([480, 640], (3, 224, 224), (3, 480, 640)),
        ([1, 28, 28], (3, 224, 224), (1, 28, 28)),
        ([64], (1, 28, 28), (1, 64, 64)),  # the file's own channels
        ([20], (10,), (20,)),  # as many sizes as the file's shape has
        ([32, 32], (7, 5), (32, 32)),
        ([3, 16, 112, 112], (3, 224, 224), (3, 16, 112, 112)),
    ],
)
def test_sizes_replace_the_whole_shape_or_height_and_width(sizes, default, expected):
    assert image_shape(sizes, default) == expected


@pytest.mark.parametrize("shape", [(), (3, 0, 8), (3, -1), (3, 2.0), "3x8", None, 5, (True, 4)])
def test_a_shape_is_positive_whole_numbers(shape):
    with pytest.raises(InputError, match=r"expected an input shape of positive whole numbers.*got .* of type"):
        check_shape(shape, "test")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_follow_the_parameters_dtype(dtype):
    assert random_inputs(nn.Linear(2, 2).to(dtype), [(2,)], Request()).dtype == dtype


@pytest.mark.parametrize("model", [nn.Linear(2, 2, device="meta"), nn.ReLU()])
def test_inputs_are_put_on_the_device(model):
    assert random_inputs(model, [(2,)], Request(device="meta")).is_meta


def test_integer_parameters_do_not_make_integer_inputs():
    model = nn.Module()
    model.index = nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    model.scale = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    assert random_inputs(model, [(2,)], Request()).dtype == torch.float64


def test_a_model_without_parameters_gets_default_inputs():
    assert random_inputs(nn.ReLU(), [(2,)], Request()).dtype == torch.get_default_dtype()


def test_several_shapes_make_a_tuple_with_the_batch_before_each():
    inputs = random_inputs(nn.ReLU(), [(2,), (3, 4)], Request(batch_size=5))
    assert [tuple(tensor.shape) for tensor in inputs] == [(5, 2), (5, 3, 4)]
