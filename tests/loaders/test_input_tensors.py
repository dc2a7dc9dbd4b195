from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount.errors import InputError
from opcount.loaders.input_tensors import image_shape, random_batch
from opcount.loaders.request import Request
from opcount.model_inputs import read_shapes


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


@pytest.mark.parametrize(
    "shape", [(), (3, 0, 8), ((3,), ()), ((3,), 4), ((3,), (0,)), (3, -1), (3, 2.0), "3x8", None, 5, (True, 4)]
)
def test_a_shape_is_positive_whole_numbers(shape):
    with pytest.raises(InputError, match=r"expected an input shape of positive whole numbers.*got .* of type"):
        read_shapes(shape, "test")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_follow_the_parameters_dtype(dtype):
    assert random_batch(nn.Linear(2, 2).to(dtype), (2,), Request()).dtype == dtype


@pytest.mark.parametrize("model", [nn.Linear(2, 2, device="meta"), nn.ReLU()])
def test_inputs_are_put_on_the_device(model):
    assert random_batch(model, (2,), Request(device="meta")).is_meta


def test_integer_parameters_do_not_make_integer_inputs():
    model = nn.Module()
    model.index = nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    model.scale = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    assert random_batch(model, (2,), Request()).dtype == torch.float64


def test_a_model_without_parameters_gets_default_inputs():
    assert random_batch(nn.ReLU(), (2,), Request()).dtype == torch.get_default_dtype()


def test_the_batch_stands_before_the_shape():
    assert random_batch(nn.ReLU(), (3, 4), Request(batch_size=5)).shape == (5, 3, 4)


def test_weights_in_8_bits_do_not_make_inputs_in_8_bits():
    model = nn.Sequential(nn.Linear(2, 2).to(torch.float8_e5m2), nn.Linear(2, 2).to(torch.bfloat16))
    assert random_batch(model, (2,), Request()).dtype == torch.bfloat16


def test_shapes_are_one_or_several():
    assert read_shapes([3, 8, 8], "test") == [(3, 8, 8)]
    assert read_shapes(((3, 8, 8), [10]), "test") == [(3, 8, 8), (10,)]
