"""The rule from the schema, against an oracle that counts the bytes its own naive loops touch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opcount import Cost, OpCounter
from opcount.traffic import traffic_of
from opcount.traffic.touched import touched, touched_by
from opcount.traffic.written_out import bytes_of
from tests.traffic.touching import Memory, traffic

SIZES = st.integers(1, 3)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int16, torch.bool])
NUMBERS = st.sampled_from([torch.float32, torch.float64, torch.int32])


@st.composite
def layouts(draw, shape, dtype=torch.float32, *, expands=True):
    """Draw a tensor of a shape: with gaps, in another order of dimensions, expanded."""
    order = draw(st.permutations(range(len(shape))))
    expanded = [expands and draw(st.booleans()) for _ in shape]
    gaps = [draw(st.sampled_from([1, 2])) for _ in shape]
    base = torch.ones([(1 if expanded[i] else shape[i]) * gaps[i] for i in order], dtype=dtype)
    for at, i in enumerate(order):
        base = base[(slice(None),) * at + (slice(None, None, gaps[i]),)]
    return base.permute([order.index(i) for i in range(len(shape))]).expand(shape)


@st.composite
def broadcast(draw, count, dtype=None):
    """Draw tensors that broadcast together."""
    shape = draw(st.lists(SIZES, max_size=3))
    parts = [[draw(st.sampled_from([1, n])) for n in shape][draw(st.integers(0, len(shape))) :] for _ in range(count)]
    return [draw(layouts(part, dtype or draw(NUMBERS))) for part in parts]


def elementwise(memory, out, *operands):
    target = memory.of(out)
    arrays = [memory.of(x) for x in operands]
    for index in target.indices():
        for array in arrays:
            array.get_broadcast(index)
        target.set(*index)
    return memory.bytes()


@given(broadcast(2))
def test_a_broadcast_operand_is_read_once(operands):
    a, b = operands
    found = traffic("aten.mul.Tensor", lambda: torch.mul(a, b))
    assert found == elementwise(Memory(), torch.mul(a, b), a, b)


@given(broadcast(3, torch.float32))
def test_three_operands_are_read_once_each(operands):
    a, b, c = operands
    expected = elementwise(Memory(), torch.addcmul(a, b, c), a, b, c)
    assert traffic("aten.addcmul.default", lambda: torch.addcmul(a, b, c)) == expected


@given(st.lists(SIZES, max_size=3).flatmap(layouts))
def test_one_tensor_given_twice_is_read_once(x):
    assert traffic("aten.mul.Tensor", lambda: torch.mul(x, x)) == elementwise(Memory(), torch.mul(x, x), x)
    assert traffic("aten.mul.Tensor", lambda: torch.mul(x, 2.0)) == elementwise(Memory(), torch.mul(x, 2.0), x)
    assert traffic("aten.sin.default", lambda: torch.sin(x)) == elementwise(Memory(), torch.sin(x), x)


@given(st.lists(SIZES, max_size=3).flatmap(lambda shape: st.tuples(layouts(shape, expands=False), layouts(shape))))
def test_what_is_changed_in_place_is_read_and_written(tensors):
    x, y = tensors
    memory = Memory()
    target, other = memory.of(x), memory.of(y)
    for index in target.indices():
        target.get(*index)
        other.get(*index)
        target.set(*index)
    assert traffic("aten.add_.Tensor", lambda: x.add_(y)) == memory.bytes()
    assert traffic("aten.add_.Tensor", lambda: x.add_(x)) == (touched(x), touched(x))
    assert traffic("aten.neg_.default", x.neg_) == (touched(x), touched(x))


@given(broadcast(2, torch.float32))
def test_what_is_given_as_out_is_written_and_not_read(operands):
    a, b = operands
    out = torch.empty(torch.broadcast_shapes(a.shape, b.shape))
    assert traffic("aten.mul.out", lambda: torch.mul(a, b, out=out)) == elementwise(Memory(), out, a, b)
    same = a.clone(memory_format=torch.contiguous_format)
    read, written = traffic("aten.sin.out", lambda: torch.sin(same, out=same))
    assert (read, written) == (touched(same), touched(same))  # an operand, too


@given(st.lists(SIZES, max_size=3).flatmap(lambda shape: st.tuples(layouts(shape, expands=False), layouts(shape))))
def test_copies_and_fills_do_not_read_what_they_overwrite(tensors):
    x, y = tensors
    size = touched(x)
    assert traffic("aten.copy_.default", lambda: x.copy_(y)) == (touched(y), size)
    assert traffic("aten.fill_.Scalar", lambda: x.fill_(2.0)) == (0, size)
    assert traffic("aten.zero_.default", x.zero_) == (0, size)
    assert traffic("aten.normal_.default", x.normal_) == (0, size)
    assert traffic("aten.uniform_.default", x.uniform_) == (0, size)
    assert traffic("aten.bernoulli_.float", lambda: x.bernoulli_(0.5)) == (0, size)
    half = torch.full_like(x, 0.5)
    assert traffic("aten.bernoulli_.Tensor", lambda: x.bernoulli_(half)) == (touched(half), size)
    assert traffic("aten._foreach_zero_.default", lambda: torch._foreach_zero_([x])) == (0, size)
    assert traffic("aten._foreach_copy_.default", lambda: torch._foreach_copy_([x], [y])) == (touched(y), size)


@given(SIZES, SIZES, SIZES, SIZES, st.data())
def test_a_product_reads_each_operand_once(batch, m, k, n, data):
    a, b = data.draw(layouts((batch, m, k))), data.draw(layouts((batch, k, n)))
    bias = data.draw(layouts((n,)))
    out = torch.bmm(a, b)
    memory = Memory()
    left, right, target = memory.of(a), memory.of(b), memory.of(out)
    for i, row, column in target.indices():
        for at in range(k):
            left.get(i, row, at)
            right.get(i, at, column)
        target.set(i, row, column)
    read, written = memory.bytes()
    assert traffic("aten.bmm.default", lambda: torch.bmm(a, b)) == (read, written)
    bias = torch.ones(n)
    assert traffic("aten.baddbmm.default", lambda: torch.baddbmm(bias, a, b)) == (read + bias.nbytes, written)
    assert traffic("aten.baddbmm.default", lambda: torch.baddbmm(bias, a, b, beta=0)) == (read, written)
    assert traffic("aten.baddbmm.out", lambda: torch.baddbmm(bias, a, b, beta=0, out=out)) == (read, written)
    assert traffic("aten.baddbmm_.default", lambda: out.baddbmm_(a, b, beta=0)) == (read, written)
    assert traffic("aten.baddbmm_.default", lambda: out.baddbmm_(a, b)) == (read + written, written)


@given(st.lists(st.lists(SIZES, min_size=2, max_size=2).flatmap(layouts), min_size=1, max_size=3), st.booleans())
def test_lists_are_worked_through(tensors, twice):
    given_ = tensors * (1 + twice)
    size = sum(map(touched, tensors))
    fresh = sum(x.numel() * 4 for x in given_)
    assert traffic("aten._foreach_sin.default", lambda: torch._foreach_sin(given_)) == (size, fresh)
    flat = [x.reshape(-1) for x in tensors]
    read, written = traffic("aten.cat.default", lambda: torch.cat(flat))
    assert (read, written) == (sum(map(touched, flat)), sum(x.numel() * 4 for x in flat))
    own = [x.clone(memory_format=torch.contiguous_format) for x in tensors]
    all_of_it = sum(x.nbytes for x in own)
    assert traffic("aten._foreach_add_.Scalar", lambda: torch._foreach_add_(own, 1.0)) == (all_of_it, all_of_it)


@given(DTYPES, st.lists(SIZES, min_size=1, max_size=3).flatmap(layouts))
def test_a_reduction_reads_its_input_once(dtype, x):
    x = x.to(dtype)
    out = x.sum(-1)
    memory = Memory()
    array, target = memory.of(x), memory.of(out)
    for index in array.indices():
        array.get(*index)
        target.set(*index[:-1])
    assert traffic("aten.sum.dim_IntList", lambda: x.sum(-1)) == memory.bytes()


X = torch.ones(4, 6)

SILENT = {
    "aten.view.default": lambda: X.view(24),
    "aten._unsafe_view.default": lambda: torch.ops.aten._unsafe_view(X, [24]),
    "aten.slice.Tensor": lambda: X[:, :1],
    "aten.select.int": lambda: X[0],
    "aten.expand.default": lambda: X.expand(3, 4, 6),
    "aten.split.Tensor": lambda: X.split(2),
    "aten.unsafe_split.Tensor": lambda: X.unsafe_split(2),
    "aten.as_strided.default": lambda: X.as_strided((2, 2), (1, 1)),
    "aten.t_.default": lambda: torch.ones(4, 6).t_(),
    "aten.unsqueeze_.default": lambda: torch.ones(4, 6).unsqueeze_(0),
    "aten.empty.memory_format": lambda: torch.empty(4),
    "aten.empty_like.default": lambda: torch.empty_like(X),
    "aten.empty_strided.default": lambda: torch.empty_strided((4,), (1,)),
    "aten.new_empty.default": lambda: X.new_empty(4),
    "aten.resize_.default": lambda: torch.ones(4).resize_(2),
    "aten.set_.source_Tensor": lambda: torch.ones(4).set_(torch.ones(3)),
}


@pytest.mark.parametrize("operator", SILENT)
def test_views_and_memory_without_contents_move_nothing(operator):
    assert traffic(operator, SILENT[operator]) == (0, 0)


CREATED = {
    "aten.zeros.default": lambda: torch.zeros(4),
    "aten.zeros_like.default": lambda: torch.zeros_like(X[0, :4]),
    "aten.new_ones.default": lambda: X.new_ones(4),
    "aten.rand_like.default": lambda: torch.rand_like(X[0, :4]),
    "aten.full.default": lambda: torch.full((4,), 1.0),
    "aten.arange.default": lambda: torch.arange(4, dtype=torch.float32),
}


@pytest.mark.parametrize("operator", CREATED)
def test_what_is_made_from_nothing_is_written_alone(operator):
    assert traffic(operator, CREATED[operator]) == (0, 16)


def test_copies_of_views_read_what_they_write():
    assert traffic("aten.slice_copy.Tensor", lambda: torch.slice_copy(X, 1, 0, 1)) == (16, 16)
    assert traffic("aten.expand_copy.default", lambda: torch.expand_copy(X[:, :1], (4, 6))) == (16, 96)


def test_an_argument_of_which_the_shape_is_asked_is_not_read():
    x, grad = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    backward = torch.ops.aten.avg_pool2d_backward.default
    run = lambda: backward(grad, x, [2, 2], [2, 2], [0, 0], False, True, None)
    assert traffic("aten.avg_pool2d_backward.default", run) == (16, 64)


KINDS = {
    "COO": (lambda: torch.eye(4).to_sparse(), 4 * (2 * 8 + 4)),
    "CSR": (lambda: torch.eye(4).to_sparse_csr(), 5 * 8 + 4 * 8 + 4 * 4),
    "BSR": (lambda: torch.eye(4).to_sparse_bsr((2, 2)), 3 * 8 + 2 * 8 + 2 * 4 * 4),
    "CSC": (lambda: torch.eye(4).to_sparse_csc(), 5 * 8 + 4 * 8 + 4 * 4),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)]), 18 * 4),
    "jagged": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(4)], layout=torch.jagged), 6 * 4),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8), 16),
    "empty": (lambda: torch.ones(0, 3), 0),
    "expanded to nothing": (lambda: torch.ones(1).expand(0), 0),
    "scalar": (lambda: torch.tensor(1.0), 4),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), 24),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_bytes_of_a_tensor_are_those_that_it_stores(kind):
    make, size = KINDS[kind]
    assert touched(make()) == size


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_so_many_tensors_sum_as_a_loop_does(kind):
    tensor, dense = KINDS[kind][0](), torch.ones(3)
    for values in ((tensor, None, dense), (dense, tensor, tensor), (None, tensor, 2.0), (tensor, dense, dense)):
        distinct = {id(x): x for x in values if isinstance(x, torch.Tensor)}
        assert bytes_of(3)(*values) == touched_by(values) == sum(map(touched, distinct.values()))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_products_with_sparse_matrices_read_indices_and_values():
    dense, out = torch.ones(4, 3), 48
    assert traffic("aten.mm.default", lambda: KINDS["COO"][0]() @ dense) == (80 + 48, out)
    assert traffic("aten.addmm.default", lambda: torch.addmm(dense, KINDS["CSR"][0](), dense)) == (48 + 88, out)
    assert traffic("aten._to_sparse_csr.default", lambda: torch.eye(4).to_sparse_csr()) == (64, 88)


def test_a_formula_may_state_its_traffic():
    library = torch.library.Library("traffic15", "DEF")
    library.define("f(Tensor x, Tensor(a!) y) -> Tensor")
    library.impl("f", lambda x, y: x + 0 * y, "CompositeExplicitAutograd")
    f, x, y = torch.ops.traffic15.f.default, torch.ones(4), torch.ones(8, 4)[:, 0][:4]
    expected = {
        Cost(arith=1): (32, 32),  # by the rule: both are read, the output and the marked argument written
        Cost(arith=1, bytes_read=5): (5, 32),
        Cost(arith=1, bytes_written=7): (32, 7),
        Cost(bytes_read=0, bytes_written=0): (0, 0),
    }
    for cost, (read, written) in expected.items():
        with OpCounter(formulas={f: lambda *_, cost=cost: cost}) as c:
            f(x, y)
        assert (c.bytes_read, c.bytes_written, c.arith) == (read, written, cost.arith)
    library._destroy()


@pytest.mark.parametrize("wrong", [-1, 0.5, "1"])
def test_traffic_that_is_no_count_is_an_error(wrong):
    message = r"aten\.mm\.default: expected its formula to count in whole numbers"
    counter = OpCounter(formulas={"aten.mm": lambda *_: Cost(macs=1, bytes_read=wrong)})
    with pytest.raises(ValueError, match=message), counter:
        torch.mm(X, X.t())


def test_costs_with_traffic_add_up():
    one, other = Cost(1, 2, 3, bytes_read=4), Cost(1, bytes_read=1, bytes_written=2)
    assert (one + other).bytes_read == 5
    assert (one + other).bytes_written == 2
    assert (3 * other).bytes_written == 6
    assert sum([one, Cost()], Cost()) == one
    assert one != Cost(1, 2, 3)
    assert Cost(1, 2, 3) != one
    assert one == Cost(1, 2, 3, bytes_read=4)
    assert len({one, Cost(1, 2, 3, bytes_read=4)}) == 1


@pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning")
def test_what_nothing_explains_has_traffic_all_the_same():
    library = torch.library.Library("traffic15b", "DEF")
    library.define("g(Tensor x, Tensor(a!) y) -> ()")
    library.impl("g", lambda x, y: None, "CompositeExplicitAutograd")
    x, y = torch.ones(4), torch.ones(6)
    assert traffic("traffic15b.g.default", lambda: torch.ops.traffic15b.g(x, y)) == (40, 24)
    library._destroy()


def test_no_overload_of_pytorch_lacks_a_function():
    count = 0
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")
        if namespace in {"aten", "prims", "quantized", "mkldnn"}:
            function = traffic_of(getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default"))
            assert function is None or callable(function)
            assert getattr(function, "__name__", "") != "refuse", name
            count += 1
    assert count > 2000
