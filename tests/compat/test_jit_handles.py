"""Handles that programs pass on, on the values of our analyses and on those of a traced graph."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount.compat import fvcore
from opcount.compat import jit_handles as ours
from opcount.compat.fvcore import FlopCountAnalysis, JitModelAnalysis
from tests.compat.test_fvcore_oracle import Mixed

theirs = pytest.importorskip("fvcore.nn.jit_handles")

MADE = {
    "aten::sigmoid": ("elementwise_flop_counter", 2, 3),
    "aten::add": ("generic_activation_jit",),
}


def handles(package):
    """Return fvcore's default handles, or ours, and two more that are made."""
    default = ours.FLOP_HANDLES if package is ours else import_module("fvcore.nn.flop_count")._DEFAULT_SUPPORTED_OPS
    return default | {operator: getattr(package, name)(*options) for operator, (name, *options) in MADE.items()}


def nodes_of(function, operator, *inputs):
    """Return inputs and outputs of one node of a traced graph, as fvcore passes them to handles."""
    graph = torch.jit.trace(function, inputs, check_trace=False).graph
    (node,) = (node for node in graph.nodes() if node.kind() == operator)
    return list(node.inputs()), list(node.outputs())


@pytest.mark.parametrize("train", [True, False])
def test_our_handles_count_as_our_analyses_and_as_fvcores_handles(train):
    model, x = Mixed().train(train), torch.ones(1, 3, 6, 6)
    counts = [
        JitModelAnalysis(model, x).unsupported_ops_warnings(enabled=False).set_op_handle(**handles(package))
        for package in (ours, theirs)
    ]
    assert counts[0].by_module_and_operator() == counts[1].by_module_and_operator()
    default = FlopCountAnalysis(model, x).unsupported_ops_warnings(enabled=False).by_operator()
    assert default.items() <= counts[0].by_operator().items()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("function", "operator", "shapes"),
    [
        (F.linear, "aten::linear", [(2, 5, 3), (4, 3)]),
        (torch.addmm, "aten::addmm", [(2, 4), (2, 3), (3, 4)]),
        (torch.matmul, "aten::matmul", [(2, 2, 3), (2, 3, 4)]),
        (torch.bmm, "aten::bmm", [(2, 2, 3), (2, 3, 4)]),
        (lambda x, y: torch.einsum("nc,nchw->hw", x, y), "aten::einsum", [(3, 4), (3, 4, 2, 3)]),
        (lambda x, y: torch.einsum("nct,ncp->ntp", x, y), "aten::einsum", [(1, 5, 2), (1, 5, 12)]),
        (F.conv2d, "aten::_convolution", [(2, 4, 6, 6), (6, 2, 3, 3)]),
        (F.conv_transpose2d, "aten::_convolution", [(2, 4, 6, 6), (4, 5, 3, 3)]),
        (F.batch_norm, "aten::batch_norm", [(2, 3, 4), (3,), (3,)]),
        (lambda x, w: F.batch_norm(x, None, None, w, w, training=True), "aten::batch_norm", [(2, 3, 4), (3,)]),
        (lambda x: F.group_norm(x, 2), "aten::group_norm", [(2, 4, 3)]),
    ],
)
def test_handles_read_traced_graphs_too(function, operator, shapes):
    if function is F.conv2d:
        function = lambda x, w: F.conv2d(x, w, groups=2)
    nodes = nodes_of(function, operator, *map(torch.ones, shapes))
    assert handles(ours)[operator](*nodes) == handles(theirs)[operator](*nodes)


def test_matrix_products_count_the_batch_of_either_operand():
    flops = JitModelAnalysis(nn.Module(), ())
    flops.model.forward = torch.matmul
    flops = flops.copy(new_inputs=(torch.ones(2, 3), torch.ones(5, 3, 4)))
    assert flops.set_op_handle("aten::matmul", ours.matmul_flop_jit).total() == 5 * 2 * 3 * 4


def test_activations_go_by_the_name_that_was_given():
    flops = JitModelAnalysis(nn.ReLU(), torch.ones(2, 3))
    assert flops.set_op_handle("aten::relu", ours.generic_activation_jit("act")).by_operator() == {"act": 6}


def test_the_handles_to_build_on_are_of_fvcores_operators():
    assert fvcore._DEFAULT_SUPPORTED_OPS.keys() == import_module("fvcore.nn.flop_count")._DEFAULT_SUPPORTED_OPS.keys()


def test_every_name_of_fvcores_is_there():
    functions = {name for name, value in vars(theirs).items() if getattr(value, "__module__", "") == theirs.__name__}
    assert functions <= set(ours.__all__)
    assert all(hasattr(import_module("opcount.compat.jit_handles"), name) for name in ours.__all__)
