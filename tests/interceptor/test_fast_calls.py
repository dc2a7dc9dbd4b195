"""An operator runs by PyTorch's own parsed functions, and whoever stands below the counter sees no difference."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_utils import set_rng_seed
from torch.testing._internal.opinfo.core import SampleInput
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from opcount import Cost, OpCounter
from opcount.interceptor.fast_calls import BOUND, fast_call_of
from tests.features import needs

SAMPLES = 6
SCALAR = torch.tensor(2.0)


class Recorder(TorchDispatchMode):
    """Notes every call, tensors as their metadata."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        noted = tree_map_only(torch.Tensor, lambda t: (t.shape, t.dtype, t.layout), (args, kwargs or {}))
        self.calls.append((str(func), repr(noted)))
        return func(*args, **(kwargs or {}))


def calls(op, sample, *, counted):
    """Return what arrives below a counter, or below nothing, in a call of an operator or of its in-place variant."""
    recorder = Recorder()
    given = sample.input.clone() if isinstance(sample.input, torch.Tensor) else sample.input
    with torch.no_grad(), recorder, OpCounter() if counted else nullcontext():
        op(given, *sample.args, **sample.kwargs)
    return recorder.calls


def samples():
    for op in op_db:
        for dtype in (torch.float32, torch.complex64):
            if dtype in op.supported_dtypes("cpu"):
                set_rng_seed(0)
                for sample in islice(op.sample_inputs_func(op, "cpu", dtype, False), SAMPLES):
                    yield from ((variant, sample) for variant in (op, op.inplace_variant) if variant is not None)


@needs("a detach that modes see once")
@pytest.mark.filterwarnings("ignore")
def test_each_stands_for_its_overload_in_all_samples():
    met = set()
    for op, sample in samples():
        try:
            before = calls(op, sample, counted=False)
        except Exception:  # noqa: BLE001, S112  (a mode that only looks on is refused, too)
            continue
        names = {name for name, _ in before} & BOUND.keys()
        if names:
            assert calls(op, sample, counted=True) == before, op
            met |= names
    assert met == BOUND.keys() - {"aten.relu_.default"}


def test_relu_in_place_is_its_overload():
    def relu(x):
        return torch.relu_(x)

    sample = SampleInput(torch.randn(3))
    assert calls(relu, sample, counted=True) == calls(relu, sample, counted=False) != []


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mul.Tensor", (2.0, SCALAR)),
        ("mul.Tensor", (SCALAR, 2)),
        ("add.Tensor", (2, torch.ones(3))),
        ("sub.Tensor", (1, torch.ones(3, dtype=torch.int64))),
        ("div.Tensor", (1, torch.ones(3))),
    ],
)
def test_python_numbers_do_for_tensors(name, args):
    packet, overload = name.split(".")
    op = getattr(getattr(torch.ops.aten, packet), overload)
    assert f"aten.{name}" in BOUND
    with torch.no_grad():
        expected = op(*args)
        with OpCounter() as c:
            out = op(*args)
    assert torch.equal(out, expected)
    assert out.dtype == expected.dtype
    assert c.by_operator()[f"aten.{name}"].calls == 1


@pytest.mark.parametrize(
    ("op", "args"),
    [(torch.ops.aten.mm.default, (torch.ones(2, 3), torch.ones(2, 3))), (torch.ops.aten.relu.default, (2.0,))],
)
def test_an_error_is_the_operators_own(op, args):
    with pytest.raises(RuntimeError) as expected:
        op(*args)
    with OpCounter() as c, pytest.raises(RuntimeError) as found:
        op(*args)
    assert str(found.value) == str(expected.value)
    assert not c.profile.records


def test_a_kernel_that_raises_a_type_error_runs_once():
    ran = []
    library = torch.library.Library("direct_test", "DEF")
    library.define("f(Tensor x) -> Tensor")

    def kernel(_x):
        ran.append(1)
        raise TypeError("mine")

    library.impl("f", kernel, "CPU")
    with OpCounter(formulas={"direct_test.f": lambda out, x: Cost()}), pytest.raises(TypeError, match="mine"):
        torch.ops.direct_test.f(torch.ones(2))
    assert ran == [1]


def test_others_run_by_what_they_are():
    assert fast_call_of(torch.ops.aten.mm.default) is torch._C._VariableFunctions.mm
    assert fast_call_of(torch.ops.higher_order.cond) is torch.ops.higher_order.cond
    softplus = torch.ops.aten.softplus.default
    assert fast_call_of(softplus) in (softplus._op, softplus)
