"""Rules: what an operator without a formula costs."""

from __future__ import annotations

import warnings

import torch

from opcount.cost import Cost
from opcount.formulas.free import FREE_NAMES
from opcount.formulas.rules import ELEMENTWISE, REDUCTIONS, rule_for
from tests.features import needs
from tests.formulas.priced import family_of, overloads, recorded

aten = torch.ops.aten


def price(func, *args, **kwargs):
    return rule_for(func).price(func(*args, **kwargs), *args, **kwargs)


def test_a_pointwise_operator_counts_one_for_each_element_of_the_broadcast_output():
    assert price(aten.mul.Tensor, torch.ones(3, 1), torch.ones(4)) == Cost(arith=3 * 4)


def test_an_untagged_overload_is_judged_by_its_siblings():
    assert rule_for(aten.mul.Scalar_out).family == "elementwise"


def test_a_reduction_counts_one_for_each_input_element():
    assert price(aten.sum.dim_IntList, torch.ones(3, 5), [1]) == Cost(arith=3 * 5)


def test_max_reduces_one_tensor_and_compares_two():
    assert price(aten.max.default, torch.ones(3, 5)) == Cost(arith=3 * 5)
    assert price(aten.max.other, torch.ones(3, 5), torch.ones(5)) == Cost(arith=3 * 5)
    assert rule_for(aten.max.dim_max).family == rule_for(aten.max.dim).family == "reduction"
    assert rule_for(aten.max.other).family == "elementwise"


def test_an_operator_on_a_list_counts_every_member_even_in_place():
    members = [torch.ones(3), torch.ones(2, 2)]
    assert price(aten._foreach_mul.Scalar, members, 2.0) == Cost(arith=3 + 4)
    assert price(aten._foreach_mul_.Scalar, members, 2.0) == Cost(arith=3 + 4)
    assert rule_for(aten._foreach_zero_.default).family == "free"
    assert rule_for(aten._foreach_max.default).family == "reduction"


def test_a_question_about_values_counts_its_comparisons():
    assert price(aten.equal.default, torch.ones(7), torch.ones(7)) == Cost(arith=7)


def test_all_outputs_of_a_pointwise_operator_count():
    assert price(aten.frexp.Tensor, torch.ones(6)) == Cost(arith=6 + 6)  # a mantissa and an exponent


def test_only_the_stored_values_of_a_sparse_tensor_count():
    sparse = torch.eye(4).to_sparse()
    assert price(aten.sin.default, sparse) == Cost(arith=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Sparse CSR tensor support is in beta state"
        assert price(aten.sin.default, torch.eye(4).to_sparse_csr()) == Cost(arith=4)
    assert price(aten.sum.default, sparse) == Cost(arith=4)


def test_an_operator_that_multiplies_while_it_communicates_is_not_declared():
    assert rule_for(torch.ops.symm_mem._async_input_mm.default) is None


def test_nothing_is_known_of_an_operator_that_was_never_heard_of():
    with torch.library._scoped_library("opcount_test_rules", "DEF") as library:
        library.define("mystery(Tensor x) -> Tensor")
        library.define("wave(Tensor x) -> Tensor", tags=(torch.Tag.pointwise,))
        library.define("peek(Tensor(a) x) -> Tensor(a)")
        library.define("write(Tensor(a!) x) -> Tensor(a!)")
        ours = torch.ops.opcount_test_rules
        assert rule_for(ours.mystery.default) is None
        assert rule_for(ours.wave.default).family == "elementwise"
        assert rule_for(ours.peek.default).family == "free"
        assert rule_for(ours.write.default) is None


@needs("every operator and argument that a formula names")
def test_every_declared_name_stands_in_one_list_and_most_exist_here():
    lists = [FREE_NAMES, frozenset(ELEMENTWISE.split()), frozenset(REDUCTIONS.split())]
    for i, left in enumerate(lists):
        for right in lists[i + 1 :]:
            assert not left & right
    places = (aten, torch.ops.prims, torch.ops.prim, torch.ops.inductor, torch.ops.inductor_prims, torch.ops.rngprims)
    strangers = [n for n in frozenset().union(*lists) if not any(hasattr(p, s) for p in places for s in (n, n + "_"))]
    assert len(strangers) < 0.05 * sum(map(len, lists)), strangers  # operators of other versions


def test_what_the_newest_pytorch_prices_is_priced_alike_by_an_older_one_that_tags_fewer_operators():
    families = {(packet, overload): family_of(func) for packet, overload, func in overloads()}
    expected = recorded()
    assert len(expected) > 2000
    both = families.keys() & expected.keys()
    assert len(both) > 2000
    assert {at: (families[at], expected[at]) for at in both if families[at] != expected[at]} == {}
