"""An ``autograd.Function`` may compute with arrays of NumPy that hold nothing of its input, and is named otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from tests.interceptor.test_opaque_functions import W, function, product, uncounted

pytestmark = pytest.mark.filterwarnings("ignore:.*no formula")


TABLES = {
    "an array": lambda x: x * torch.from_numpy(np.ones((2, 3), "float32")),
    "an array that is copied": lambda x: x + torch.tensor(np.ones((2, 3), "float32")),
    "bytes": lambda x: x * torch.frombuffer(bytearray(np.ones((2, 3), "float32")), dtype=x.dtype).view(2, 3),
    "an array by DLPack": lambda x: x * torch.from_dlpack(np.ones((2, 3), "float32")),
    "an array that is asked for": lambda x: torch.asarray(x.detach()) * torch.asarray(np.ones((2, 3), "float32")),
    "a list that is asked for": lambda x: x * torch.asarray([1.0, 2.0, 3.0]),
    "an array that is cast": lambda x: x - torch.from_numpy(np.ones((2, 3))).to(x),
    "an array that is scaled first": lambda x: x * (torch.from_numpy(np.ones((2, 3), "float32")) * 0.5 + 1),
    "a list": lambda x: x * x.new_tensor([[1.0, 2.0, 3.0]]),
    "a filter": lambda x: nn.functional.conv1d(x[:, None], torch.from_numpy(np.ones((1, 1, 3), "float32")))[:, 0],
    "a matrix": lambda x: x @ torch.from_numpy(np.eye(3, dtype="float32")),
    "in place": lambda x: (x * 2).mul_(torch.from_numpy(np.ones((2, 3), "float32"))),
    "twice": lambda x: x * torch.from_numpy(np.ones(3, "float32")) + torch.from_numpy(np.ones(3, "float32")),
    "concatenated, then computed with": lambda x: (
        torch.cat([x, torch.from_numpy(np.ones((2, 3), "float32"))]) @ W[:, :3]
    ),
    "an index": lambda x: x[:, torch.from_numpy(np.array([2, 0, 1]))],
    "a selection": lambda x: x.index_select(1, torch.from_numpy(np.array([2, 0]))),
    "gathered": lambda x: x.gather(1, torch.from_numpy(np.zeros((2, 3), "int64"))),
    "scattered": lambda x: torch.zeros(2, 3).scatter_(1, torch.from_numpy(np.array([[0, 1, 2]] * 2)), x),
    "embedded": lambda x: nn.functional.embedding(torch.from_numpy(np.array([1, 0])), x),
    "a mask": lambda x: x.masked_fill(torch.from_numpy(np.eye(2, 3) > 0), 0.0),
    "a choice": lambda x: torch.where(torch.from_numpy(np.eye(2, 3) > 0), x, x * 2),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_function_may_compute_with_an_array_that_knows_nothing_of_its_input(name):
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    backward = lambda ctx, g: g * torch.from_numpy(np.ones(g.shape, "float32"))
    probe = function(lambda _, x: TABLES[name](x), backward if name == "an array" else None)
    assert uncounted(lambda: probe.apply(x)) == set()
    if name == "an array":
        assert uncounted(lambda: probe.apply(x).sum().backward()) == set()


SHOWN = {
    "a bias of the input": lambda x: torch.from_numpy(product(x, x.mT)) + x[:, :2],
    "scaled by it": lambda x: x[:, :2] * torch.from_numpy(product(x, x.mT)),
    "a result inside, and the input": lambda x: torch.from_numpy(product(x * 2, x.mT.double())).float() + x[:, :2],
    "alive": lambda x: [y := x * 2, torch.from_numpy(product(y, W)) + 1.0, x.sum()][1] * x.sum(),
    "an index that was computed": lambda x: x[:, torch.from_numpy(np.argsort(x[0].numpy()))],
    "returned": lambda x: torch.from_numpy(np.ones((2, 3), "float32")),
    "returned and moved": lambda x: torch.from_numpy(np.ones((3, 2))).float().t().clone(),
    "copied into": lambda x: x.new_empty(2, 3).copy_(torch.from_numpy(np.ones((2, 3)))),
    "concatenated": lambda x: torch.cat([x * 2, torch.from_numpy(np.ones((2, 3), "float32"))]),
    "of another alone": lambda x: torch.from_numpy(np.ones((2, 3), "float32")) * torch.from_numpy(np.ones(3, "f4")),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_function_that_returns_an_array_or_has_made_one_of_its_input_is_named(name):
    probe = function(lambda _, x: SHOWN[name](x.detach()))
    assert uncounted(lambda: probe.apply(torch.arange(6.0).reshape(2, 3))) == {"autograd.Probe"}
