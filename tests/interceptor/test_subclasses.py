"""Tensor subclasses: the work that is done is counted once, whether the subclass shows it or hides it."""

# ruff: noqa: PLC0415  (each class has a module of its own, slow to import)

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_map

from opcount import OpCounter
from tests.features import custom_op, needs

W = torch.ones(4, 4)
X = torch.ones(3, 4)


class Wrapper(torch.Tensor):
    """Holds a tensor, and runs operators on it."""

    hidden = False

    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "dtype": inner.dtype, "device": inner.device}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **layout)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args, kwargs = tree_map(lambda v: v.inner if isinstance(v, cls) else v, (args, kwargs or {}))
        if cls.hidden:
            with torch._C._DisableTorchDispatch():
                out = func(*args, **kwargs)
        else:
            out = func(*args, **kwargs)
        return tree_map(lambda v: cls(v) if isinstance(v, torch.Tensor) else v, out)


class Hidden(Wrapper):
    hidden = True


class Passing(torch.Tensor):
    """Sees functions, and does nothing about them."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


class Weight(nn.Parameter):
    """A parameter with a class of its own."""


@pytest.mark.parametrize("kind", [Wrapper, Hidden])
def test_a_detached_subclass_computes_and_detaching_it_ends(kind):
    with OpCounter() as counter:
        out = kind(X).detach() @ W
    assert counter.macs == 3 * 4 * 4
    assert type(out) is kind


def two_tensor():
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(X, X) @ W


def logging_tensor():
    from torch.testing._internal.logging_tensor import LoggingTensor

    return LoggingTensor(X) @ W


PROGRAMS = {
    "a wrapper": (lambda: Wrapper(X) @ W, 48),
    "a wrapper that hides its work": (lambda: Hidden(X) @ W, 48),
    "a linear layer on a wrapper": (lambda: F.linear(Wrapper(X), W, W[0]), 48),
    "a linear layer on a wrapper that hides its work": (lambda: F.linear(Hidden(X), W, W[0]), 48),
    "a logging tensor": (logging_tensor, 48),
    "two tensors in one": (two_tensor, 2 * 48),
    "functions alone": (lambda: X.as_subclass(Passing) @ W, 48),
    "a parameter's subclass": (lambda: X @ Weight(W), 48),
    "a parameter": (lambda: X @ nn.Parameter(W), 48),
    # 4 x 4 with 4 values, times 4 x 4
    "sparse": (lambda: torch.sparse.mm(torch.eye(4).to_sparse(), W), 4 * 4),
    "compressed sparse": (lambda: torch.eye(4).to_sparse_csr() @ W, 4 * 4),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_work_of_a_subclass_is_counted_once(name, mode):
    program, macs = PROGRAMS[name]
    with mode(), OpCounter(strict=True) as counter:
        program()
    assert counter.macs == macs


COMPOSITES = {
    "linear": torch.nn.functional.linear,
    "matmul": lambda x, w: torch.matmul(x, w.t()),
    "einsum": lambda x, w: torch.einsum("ble,fe->blf", x, w),
    "tensordot": lambda x, w: torch.tensordot(x, w, dims=1),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", COMPOSITES)
def test_a_subclass_computes_the_same_bits(name, mode):
    program = COMPOSITES[name]
    for seed in range(5):  # sums in another order differ in most
        torch.manual_seed(seed)
        x, w = torch.randn(3, 2, 6).transpose(0, 1), torch.nn.Parameter(torch.randn(6, 6))
        with mode():
            expected = program(Wrapper(x), Wrapper(w)).inner
            with OpCounter() as counter:
                found = program(Wrapper(x), Wrapper(w)).inner
        assert torch.equal(found, expected)
        assert counter.macs == 3 * 2 * 6 * 6


def test_a_view_that_a_subclass_hides_is_free():
    with OpCounter(strict=True) as counter:
        Hidden(X).t()
    assert (counter.macs, counter.arith) == (0, 0)
    assert set(counter.coverage.free) == {"aten.t.default"}


@needs("torch.library.custom_op")
def test_an_operator_that_a_subclass_hides_and_nothing_explains_is_named():
    @custom_op("subclasses::unknown", mutates_args=())
    def unknown(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    x = Hidden(X)
    with pytest.warns(match=r"subclasses\.unknown\.default \(1 call\)"), OpCounter():
        torch.ops.subclasses.unknown(x)


def nested(layout):
    options = {} if layout is torch.strided else {"layout": layout}  # 2.1 has no such argument
    return torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(2, 4)], **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", ["jagged", "strided"])
def test_a_nested_tensor_computes_the_rows_that_it_has(layout):
    with torch.no_grad(), OpCounter(strict=True) as counter:
        F.linear(nested(getattr(torch, layout)), torch.ones(5, 4))
    assert counter.macs == (3 + 2) * 4 * 5


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@needs("attention of jagged nested tensors that does not crash on a CPU")
def test_attention_of_nested_tensors_keeps_sequences_apart():
    q = torch.nested.nested_tensor([torch.ones(3, 2, 4), torch.ones(2, 2, 4)], layout=torch.jagged).transpose(1, 2)
    with torch.no_grad(), OpCounter(strict=True) as counter:
        F.scaled_dot_product_attention(q, q, q)
    # two heads of 4: scores and their product with the values, on 3 and on 2 tokens
    assert counter.macs == 2 * (4 + 4) * (3 * 3 + 2 * 2)


@needs("a jagged linear layer that computes only gradients that are asked for")
def test_the_backward_of_a_nested_tensor_is_counted():
    layer = nn.Linear(4, 5)
    with OpCounter(strict=True) as counter:
        layer(nested(torch.jagged)).values().sum().backward()
    # the gradient of the weight; nobody asks for that of the input
    assert {phase: total.macs for phase, total in counter.by_phase().items()} == {"forward": 100, "backward": 100}


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
def test_a_masked_tensor_is_counted_for_the_data_under_it():
    from torch.masked import masked_tensor

    x = masked_tensor(X, torch.ones(3, 4, dtype=torch.bool))
    with OpCounter(strict=True) as counter:
        x * x
    assert counter.by_operator()["aten.mul.Tensor"].arith == 3 * 4


@pytest.fixture
def mesh():
    from torch.distributed.tensor import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


_DISTRIBUTED = needs("a linear layer of distributed tensors in inference mode")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [torch.no_grad, pytest.param(torch.inference_mode, marks=_DISTRIBUTED)])
def test_a_distributed_tensor_is_counted_for_the_part_of_this_rank(mesh, mode):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    rows = distribute_tensor(torch.ones(16, 16), mesh, [Shard(0)])
    whole = distribute_tensor(torch.ones(32, 16), mesh, [Replicate()])
    with mode(), OpCounter(strict=True) as counter:
        F.linear(rows, whole)
    # 16 / 4 rows here
    assert counter.macs == 4 * 16 * 32
