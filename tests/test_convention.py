"""Sums of costs, and the FLOPs that a convention reads from them."""

import pickle

import pytest

from opcount import Convention, Cost
from opcount.convention import CONVENTIONS, find_convention
from opcount.errors import ConventionError

BOTH = Cost(macs=100, arith=10, activations=1)


def test_costs_add_up_field_by_field():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    assert sum([Cost(1), Cost(2)], Cost()) == Cost(3)
    assert 3 * Cost(1, 2, 3) == Cost(1, 2, 3) * 3 == Cost(3, 6, 9)


@pytest.mark.parametrize("other", [1, (1, 2, 3), None])
def test_a_cost_adds_to_nothing_but_a_cost(other):
    with pytest.raises(TypeError):
        Cost(1) + other


@pytest.mark.parametrize(
    ("convention", "operator", "family", "flops"),
    [
        ("fvcore", "aten.addmm.default", "matmul", 100),
        ("fvcore", "aten.native_batch_norm.default", "norm", 110),
        ("fvcore", "aten.cudnn_batch_norm.default", "norm", 110),
        ("fvcore", "aten._fused_rms_norm.default", "norm", 100),
        ("fvcore", "aten._adaptive_avg_pool2d.default", "pool", 110),
        ("fvcore", "aten._adaptive_avg_pool2d.default", "reduction", 100),
        ("fvcore", "aten._adaptive_avg_pool3d.default", "pool", 100),
        ("fvcore", "aten.mean.dim", "pool", 110),
        ("fvcore", "aten.mean.dim", "reduction", 100),
        ("fvcore", "aten.max_pool2d_with_indices.default", "pool", 100),
        ("fvcore", "aten.upsample_nearest2d.default", "resample", 110),
        ("fvcore", "aten.upsample_bilinear2d.default", "resample", 110),
        ("fvcore", "aten._upsample_bilinear2d_aa.default", "resample", 100),
        ("fvcore", "aten.upsample_bicubic2d.default", "resample", 100),
        ("fvcore", "aten.grid_sampler_2d.default", "resample", 110),
        ("fvcore", "aten.relu.default", "elementwise", 100),
        ("mmengine", "aten.native_layer_norm.default", "norm", 110),
        ("macs", "aten.native_layer_norm.default", "norm", 100),
        ("torch", "aten.native_layer_norm.default", "norm", 200),
        ("full", "aten.relu.default", "elementwise", 210),
    ],
)
def test_a_convention_decides_whose_arithmetic_counts(convention, operator, family, flops):
    assert find_convention(convention).flops(operator, family, BOTH) == flops


def test_the_alias_is_the_convention_itself():
    assert find_convention("mmengine") is find_convention("fvcore")


def test_an_unknown_convention_is_refused_with_the_names_that_there_are():
    with pytest.raises(ConventionError, match=r"got 'fvcor' of type str\. Did you mean 'fvcore'\?"):
        find_convention("fvcor")
    with pytest.raises(ConventionError, match=r"got 7 of type int"):
        find_convention(7)


def first_only(operator, _family):
    return operator.startswith("aten.first")


def test_a_convention_of_ones_own():
    own = Convention("own", "everything twice, and the first operator's arithmetic", 2, first_only)
    assert find_convention(own) is own
    assert own.flops("aten.first.default", "x", BOTH) == 210
    assert own.flops("aten.second.default", "x", BOTH) == 200


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(CONVENTIONS[name])) == CONVENTIONS[name]  # noqa: S301
