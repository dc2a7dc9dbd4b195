"""Formulas name the arguments of their operators, and what they read is what the schema has there."""

from __future__ import annotations

import inspect
from itertools import zip_longest

import pytest
import torch

import opcount.formulas  # noqa: F401  (registers what is compared)
from opcount.cost import Cost
from opcount.errors import FormulaError
from opcount.formulas.binding import bind, named
from opcount.registry import BUILTIN, Formula, operator_keys
from tests.features import VERSION, WHOLE, needs

OUT = "out"

OPTIONAL = {
    "A value for each member stands under another name": {"aten._foreach_addcdiv", "aten._foreach_addcmul"},
    "Some kernels take no bias": {
        "aten._mps_convolution_transpose",
        "aten.cudnn_convolution",
        "aten.cudnn_convolution_transpose",
    },
    "A mask, or tensors to write to": {"aten._slow_conv2d_backward"},
    "Keys in use, from a later PyTorch on": {"aten._cudnn_attention_forward"},
    "Values alone, or only together with the vectors": {"aten.linalg_svd", "prims.svd"},
    "No projection": {"aten.miopen_rnn", "aten.miopen_rnn_backward"},
    "Only a backward is told which gradients are wanted, or given a state": {"aten._cudnn_rnn", "aten._lstm_mps"},
    "A packed sequence has another name": {"aten.quantized_gru", "aten.quantized_lstm"},
    "A mean of all, and an alpha that is always 1": {"aten.mean", "aten._foreach_add", "aten._foreach_sub"},
    "A number to look for": {"aten.isin"},
}
"""Overloads of these lack an argument that their formula names; why that is right."""

LATER = OPTIONAL["Keys in use, from a later PyTorch on"]

SAME = {
    "q": {"query"},
    "k": {"key"},
    "v": {"value"},
    "q_ends": {"cum_seq_q"},
    "k_ends": {"cum_seq_k"},
    "a": {"self", "batch1", "mat", "mat1", "sparse"},
    "b": {"batch2", "dense", "mat2", "other", "vec"},
    "causal": {"is_causal"},
    "written": {"out"},
    "bias": {"self"},  # the addend of addmm
    "grad": {"grad_output"},  # from PyTorch 2.14 on
    "h": {"pooled_height"},
    "indices": {"index"},
    "map": {"channel_mapping"},
    "packed": {"packed_weight", "weight"},
    "ratio": {"sampling_ratio"},
    "scale": {"spatial_scale"},
    "values": {"source"},
    "w": {"pooled_width"},
    "x": {"self", "X", "grad_in", "grad_output", "input", "qa", "qx", "v", "x1"},
}
"""Names in schemas of an argument that a formula takes by its position."""


def overloads():
    """Yield each overload of this PyTorch that has a formula, with the formulas."""
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full.partition("::")
        packet, _, overload = rest.partition(".")
        func = getattr(getattr(getattr(torch.ops, namespace), packet, None), overload or "default", None)
        formulas = [] if func is None else BUILTIN.find(operator_keys(func))
        if formulas:
            yield func, formulas


PAIRS = [
    (func, function)
    for func, formulas in overloads()
    for formula in formulas
    for function in (formula.price, formula.when)
    if function is not None
]


def packet_of(func):
    return str(func).rpartition(".")[0].removesuffix("_")


def lacking(func, function):
    """Return what a formula names that an overload lacks, and without which it cannot do."""
    schema = {argument.name for argument in func._schema.arguments}
    return {name for name, optional in (named(function) or {}).items() if name not in {*schema, OUT} and not optional}


def absent(func, function):
    """Return what a formula names that an overload lacks."""
    return set(named(function) or ()) - {OUT, *(argument.name for argument in func._schema.arguments)}


def misplaced(func, function):
    """Return pairs of a name that a formula gives to a position, and the name that an overload has there."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    taken = [p.name.lstrip("_") for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    arguments = func._schema.arguments
    there = [argument.name for argument in arguments if not argument.kwarg_only][: len(taken)]
    by_name = {argument.name for argument in arguments if argument.kwarg_only}
    pairs = {(mine, its) for mine, its in zip_longest(taken, there) if its not in {mine, *SAME.get(mine, ())}}
    return {(mine, its) for mine, its in pairs if not (its is None and mine in by_name)}


def test_enough_is_compared():
    assert len(PAIRS) > 1000
    assert sum(named(function) is not None for _, function in PAIRS) > 600


@needs("every operator and argument that a formula names")
@pytest.mark.parametrize("function", sorted({f for _, f in PAIRS}, key=lambda f: (f.__module__, f.__qualname__)))
def test_what_a_formula_names_is_in_the_schema_of_each_overload(function):
    mine = [func for func, other in PAIRS if other is function]
    excused = set().union(*OPTIONAL.values())
    if named(function) is None:
        assert {str(func): wrong for func in mine if (wrong := misplaced(func, function))} == {}
    else:
        assert {str(func): missing for func in mine if (missing := lacking(func, function))} == {}
        assert {packet_of(func) for func in mine if absent(func, function)} <= excused


def test_every_formula_can_be_bound_to_every_overload():
    for func, formulas in overloads():
        for formula in formulas:
            bound = bind(formula, func)
            names = [argument.name for argument in func._schema.arguments]
            assert (bound.text, bound.from_user) == (formula.text, False)
            if named(formula.price) is not None:
                taken = list(inspect.signature(bound.price, follow_wrapped=False).parameters)[1:]
                assert [name.removesuffix("_") for name in taken] == [name.removesuffix("_") for name in names]


@needs("every operator and argument that a formula names")
def test_every_exception_is_one():
    excused = set().union(*OPTIONAL.values()) - (LATER if VERSION > WHOLE else set())
    assert {packet_of(func) for func, function in PAIRS if absent(func, function)} == excused


def test_values_reach_a_formula_by_name_from_wherever_the_call_has_them():
    def price(out, alpha, other, dim=7):
        return (out, alpha, other, dim)

    price.__module__ = "opcount.formulas.elementwise"
    bound = bind(Formula(price, "elementwise"), torch.ops.aten.add.Tensor)
    assert bound.price("out", "a", "b") == ("out", 1, "b", 7)
    assert bound.price("out", "a", "b", alpha=3) == ("out", 3, "b", 7)
    assert bound.price("out", self="a", other="b") == ("out", 1, "b", 7)


def test_an_argument_that_a_later_pytorch_renames_makes_the_operator_uncounted():
    def price(renamed):
        return Cost()

    price.__module__ = "opcount.formulas.elementwise"
    bound = bind(Formula(price, "elementwise"), torch.ops.aten.add.Tensor)
    with pytest.raises(FormulaError, match=r"aten\.add\.Tensor to have an argument renamed.*Register"):
        bound.price(None, 1, 2)


def test_a_formula_of_the_users_takes_the_call_as_it_is():
    def price(out, renamed):
        return Cost()

    formula = Formula(price, "user")
    assert bind(formula, torch.ops.aten.neg.default) is formula


def test_what_is_named_like_a_word_of_python_reaches_no_formula_and_hinders_none():
    def price(to):
        return to

    price.__module__ = "opcount.formulas.elementwise"
    bound = bind(Formula(price, "elementwise"), torch.ops.aten.uniform.default)
    assert bound.price(None, "x", 0.0, 2.0) == 2.0
