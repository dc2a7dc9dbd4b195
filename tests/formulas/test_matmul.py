"""Matrix products, against loops on numbers that count their operations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opcount import OpCounter
from opcount.cost import Cost
from opcount.formulas.matmul import grouped_mm, scaled_addmm
from tests.features import needs
from tests.formulas.oracle import Meter, einsum, integers, price, price_of, values

aten = torch.ops.aten
sizes = st.integers(1, 4)
small = settings(deadline=None, max_examples=15)

PRODUCTS = {
    "mm": ("mk,kn->mn", aten.mm.default),
    "bmm": ("bmk,bkn->bmn", aten.bmm.default),
    "mv": ("mk,k->m", aten.mv.default),
    "dot": ("k,k->", aten.dot.default),
    "vdot": ("k,k->", aten.vdot.default),
}
BIASED = {
    "addmm": ("mk,kn->mn", aten.addmm.default),
    "baddbmm": ("bmk,bkn->bmn", aten.baddbmm.default),
    "addmv": ("mk,k->m", aten.addmv.default),
    "addbmm": ("bmk,bkn->mn", aten.addbmm.default),
    "addr": ("m,n->mn", aten.addr.default),
    "_addmm_activation": ("mk,kn->mn", aten._addmm_activation.default),
}


def operands(equation, lengths):
    named = dict(zip("bmkn", lengths, strict=True))
    return [integers(*(named[i] for i in index)) for index in equation.split("->")[0].split(",")]


def counted(equation, a, b):
    meter = Meter()
    out = einsum(equation, meter.read(a), meter.read(b))
    return meter, values(out)


@pytest.mark.parametrize("name", PRODUCTS)
@given(lengths=st.tuples(sizes, sizes, sizes, sizes))
@small
def test_a_product_multiplies_as_often_as_its_definition(name, lengths):
    equation, operator = PRODUCTS[name]
    a, b = operands(equation, lengths)
    meter, expected = counted(equation, a, b)
    assert torch.equal(operator(a, b), expected)
    assert price(operator, a, b) == Cost(meter.products, 0, expected.numel())


@pytest.mark.parametrize("name", BIASED)
@given(lengths=st.tuples(sizes, sizes, sizes, sizes))
@small
def test_a_bias_is_one_addition_for_each_output(name, lengths):
    equation, operator = BIASED[name]
    a, b = operands(equation, lengths)
    meter, product = counted(equation, a, b)
    bias = integers(*product.shape)
    activation = name == "_addmm_activation"
    expected = (product + bias).relu() if activation else product + bias
    assert torch.equal(operator(bias, a, b), expected)
    outputs = expected.numel()
    assert price(operator, bias, a, b) == Cost(meter.products, outputs * (1 + activation), outputs)


@pytest.mark.parametrize("name", BIASED)
def test_a_bias_that_is_not_read_is_not_counted(name):
    equation, operator = BIASED[name]
    a, b = operands(equation, (2, 3, 4, 2))
    _, product = counted(equation, a, b)
    cost = price(operator, torch.zeros_like(product), a, b, beta=0)
    assert cost.arith == (product.numel() if name == "_addmm_activation" else 0)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_complex_product_is_four_real_ones(name):
    equation, operator = PRODUCTS[name]
    a, b = operands(equation, (2, 3, 4, 2))
    real, whole = price(operator, a, b), price(operator, a.cfloat(), b.cfloat())
    assert whole == Cost(4 * real.macs, real.arith, real.activations)


@pytest.mark.parametrize(
    ("function", "shapes", "equation"),
    [
        (torch.matmul, ((2, 3, 4), (4,)), "bmk,k->bm"),
        (torch.matmul, ((3,), (2, 3, 4)), "k,bkn->bn"),
        (torch.matmul, ((5, 2, 3), (3, 4)), "bmk,kn->bmn"),
        (torch.matmul, ((2, 3), (5, 3, 4)), "mk,bkn->bmn"),
        (torch.nn.functional.linear, ((2, 3, 4), (5, 4)), "bmk,nk->bmn"),
        (torch.inner, ((2, 4), (3, 4)), "mk,nk->mn"),
        (lambda a, b: torch.tensordot(a, b, dims=([1, 2], [1, 0])), ((2, 3, 4), (4, 3, 2)), "mkj,jkn->mn"),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), ((2, 3, 4), (2, 5, 4)), "bij,bkj->bik"),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_composite_product_counts_as_the_product_it_stands_for(function, shapes, equation, mode):
    a, b = (integers(*shape) for shape in shapes)
    meter, expected = counted(equation, a, b)
    with mode(), OpCounter(strict=True) as counter:
        out = function(a, b)
    assert torch.equal(out, expected)
    assert counter.macs == meter.products
    assert counter.activations == expected.numel()


def test_a_chain_is_multiplied_in_the_cheapest_order():
    with OpCounter() as counter:
        torch.linalg.multi_dot([torch.ones(2, 10), torch.ones(10, 3), torch.ones(3, 5)])
    assert counter.macs == 2 * 10 * 3 + 2 * 3 * 5  # (a b) c, not a (b c): 10 * 3 * 5 + 2 * 10 * 5


@given(b=sizes, n=sizes, i=sizes, j=sizes)
@small
def test_bilinear_multiplies_x_with_the_weight_and_the_result_with_y(b, n, i, j):
    x, weight, y = integers(b, i), integers(n, i, j), integers(b, j)
    meter = Meter()
    half = einsum("bi,nij->bnj", meter.read(x), meter.read(weight))
    expected = values(einsum("bnj,bj->bn", half, meter.read(y)))
    with OpCounter() as counter:
        out = torch.nn.functional.bilinear(x, y, weight)
    assert torch.equal(out, expected)
    assert (counter.macs, counter.activations) == (meter.products, b * n)


def test_the_gradient_of_bilinear_is_two_products_for_each_operand():
    b, n, i, j = 2, 3, 4, 5
    x, weight, y = (torch.randn(*s, requires_grad=True) for s in ((b, i), (n, i, j), (b, j)))
    out = torch.nn.functional.bilinear(x, y, weight)
    with OpCounter() as counter:
        out.sum().backward()
    to_x = b * n * i * j + b * i * j  # grad with weight, then with y
    to_weight = b * n * i + b * n * i * j  # x with grad, then with y
    to_y = b * n * i * j + b * n * j  # x with weight, then with grad
    assert counter.macs == to_x + to_weight + to_y


@given(m=sizes, k=sizes, n=sizes)
@small
def test_the_backward_of_linear_is_twice_its_forward(m, k, n):
    x, layer = torch.randn(m, k, requires_grad=True), torch.nn.Linear(k, n)
    with OpCounter() as forward:
        out = layer(x)
    with OpCounter() as backward:
        out.sum().backward()
    assert (backward.macs, backward.activations) == (2 * forward.macs, 0)


@pytest.mark.parametrize("mask", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_linear_backward_counts_the_gradients_asked_for(mask):
    x, grad, weight = torch.randn(2, 3, 4), torch.randn(2, 3, 5), torch.randn(5, 4)
    meter = Meter()
    if mask[0]:
        einsum("mn,nk->mk", meter.read(grad.flatten(0, 1)), meter.read(weight))
    if mask[1]:
        einsum("mn,mk->nk", meter.read(grad.flatten(0, 1)), meter.read(x.flatten(0, 1)))
    cost = price_of(aten.linear_backward.default, None, x, grad, weight, mask)
    assert cost == Cost(meter.products, grad.numel() * mask[2], 0)


GROUPS = {
    "rows of a": ((7, 3), (3, 3, 4), lambda a, b, rows, g: (a[rows], b[g])),
    "columns of b": ((3, 4, 3), (3, 7), lambda a, b, rows, g: (a[g], b[:, rows])),
    "depth": ((4, 7), (7, 3), lambda a, b, rows, g: (a[:, rows], b[rows])),
}


@pytest.mark.parametrize("kind", GROUPS)
@given(ends=st.lists(st.integers(0, 7), min_size=3, max_size=3).map(sorted))
@small
def test_a_grouped_product_counts_only_what_is_routed(kind, ends):
    shape_a, shape_b, part = GROUPS[kind]
    a, b = integers(*shape_a), integers(*shape_b)
    meter = Meter()
    for g, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        left, right = part(a, b, slice(start, end), g)
        einsum("mk,kn->mn", meter.read(left), meter.read(right))
    out = torch.empty(5)
    assert grouped_mm(out, a, b, torch.tensor(ends, dtype=torch.int32), None) == Cost(meter.products, 0, 5)
    meta = torch.empty(3, dtype=torch.int32, device="meta")
    assert grouped_mm(out, a, b, meta, None).macs == 7 * 3 * 4  # nobody can tell: all of it


@needs("grouped products on a CPU")
def test_grouped_mm_runs_under_the_counter():
    a, b = torch.randn(32, 16, dtype=torch.bfloat16), torch.randn(2, 16, 8, dtype=torch.bfloat16)
    with OpCounter() as counter:
        torch.ops.aten._grouped_mm(a, b, offs=torch.tensor([8, 24], dtype=torch.int32))
    assert counter.macs == 24 * 16 * 8


@pytest.mark.parametrize(("rows", "through_a_product"), [(25, False), (26, True)])
def test_euclidean_distances_of_many_rows_go_through_a_product(rows, through_a_product):
    x, y = torch.randn(2, rows, 3), torch.randn(2, 4, 3)
    with OpCounter() as counter:
        torch.cdist(x, y)
    pairs = 2 * rows * 4
    assert counter.macs == (pairs * 3 if through_a_product else 0)
    assert counter.activations == (pairs if through_a_product else 0)


def test_other_distances_are_arithmetic():
    x, y = integers(3, 4), integers(2, 4)
    meter = Meter()
    for row in meter.read(x):
        for other in meter.read(y):
            sum(((p - q).apply(abs) for p, q in zip(row, other, strict=True)), 0.0)
    pairs = 3 * 2
    # The formula counts a root for each distance, which the norm of order 1 does without.
    assert price(aten._cdist_forward.default, x, y, 1.0, None) == Cost(0, meter.operations + pairs, 0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("mask", [(True, True), (True, False)])
def test_nested_products_have_a_depth_for_each_component(mask):
    a = torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 5)])
    b = torch.nested.nested_tensor([torch.randn(3, 6), torch.randn(5, 1)])
    macs = 2 * 3 * 6 + 4 * 5 * 1
    assert price(aten.bmm.default, a, b) == Cost(macs, 0, 2 * 6 + 4 * 1)
    grad = torch.bmm(a, b)
    assert price_of(aten.matmul_backward.default, None, grad, a, b, mask).macs == sum(mask) * macs


def test_a_scaled_product_with_a_bias_is_one_with_a_bias():
    a, b, bias, meter = integers(4, 6), integers(6, 5), integers(4, 5), Meter()
    out = einsum("mk,kn->mn", meter.read(a), meter.read(b))
    assert torch.equal(values(out).to(bias.dtype) + bias, torch.addmm(bias, a, b))
    assert scaled_addmm(bias, bias, a, b) == Cost(meter.products, bias.numel(), out.size)
    assert scaled_addmm(bias, bias, a, b, beta=0) == Cost(meter.products, 0, out.size)
