"""Traffic over PyTorch's own database of operators: no more than tensors hold, and the same wherever it is counted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from opcount import OpCounter
from opcount.interceptor.calls import mutated
from opcount.interceptor.planner import Planner
from opcount.interceptor.till import Till
from opcount.scope import Frame
from opcount.traffic import traffic_of
from opcount.traffic.rule import Rule
from opcount.traffic.touched import touched
from tests.test_completeness import OPERATORS, dtypes_of, quiet, run, samples, seed

if TYPE_CHECKING:
    from collections.abc import Iterable


def tensors(values) -> list[torch.Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]


def held(values: Iterable[torch.Tensor]) -> int:
    """Return the bytes of distinct tensors, expanded ones in full."""
    distinct = {id(x): x for x in values}.values()
    return sum(x.nbytes if x.layout is torch.strided else touched(x) for x in distinct)


class Bounds(TorchDispatchMode):
    """Compares the traffic of each call with what its tensors hold, and with that of meta tensors in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        compare_with_pair(func, out, args, kwargs)
        function = traffic_of(func)
        if function is None or any(x.layout is not torch.strided for x in tensors((args, kwargs, out))):
            return out
        read, written = function(out, args, kwargs)
        if hasattr(function, "shape"):
            assert Rule.of(func).moved(out, args, kwargs) == (read, written), func
        targets = mutated(func, args, kwargs)
        assert 0 <= read <= held(tensors((args, kwargs))), func
        assert 0 <= written <= held([*tensors(out), *targets]), func
        twins: dict[int, torch.Tensor] = {}
        there = tree_map(lambda x: _on_meta(x, twins), (out, args, kwargs))
        assert function(*there) == (read, written), func
        self.calls += 1
        return out


def compare_with_pair(func, out, args, kwargs):
    """Charge a call with its joint function and without, and compare; return whether there is one."""
    plan = Planner().plan(func)
    frames = Frame(""), Frame("")
    for each, frame in zip((plan, replace(plan, joint=None)), frames, strict=True):
        Till().charge(each, out, args, kwargs, frame, "forward")
    ours, pairs = ([(p.operator, p.text, *key, numbers(r)) for (p, *key), r in f.rows.items()] for f in frames)
    assert ours == pairs, func
    return plan.joint is not None


def numbers(row):
    return {name: getattr(row, name) for name in row.__slots__ if name != "order"}


def _on_meta(x, twins):
    if not isinstance(x, torch.Tensor):
        return x
    if id(x) not in twins:
        twins[id(x)] = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return twins[id(x)]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.formatted_name)
def test_no_call_moves_more_than_its_tensors_hold(op):
    with quiet():
        for dtype in dtypes_of(op):
            for sample in samples(op, dtype):
                with Bounds():
                    run(op, sample)


def odd_tensors():
    """Return pairs of matrices of which one is sparse, nested, packed, expanded, or both are one."""
    dense = torch.ones(3, 3)
    yield dense, dense
    for other in (
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.eye(3).to_sparse_bsr((1, 1)),
        torch.ones(1, 3).expand(3, 3),
        torch.ones(3, 1).expand(3, 3),
        torch.ones(3, 6)[:, ::2],
        dense.to(torch.complex64),
        dense.to_mkldnn(),
        torch.ones(0, 1).expand(0, 3),
        torch.ones(()),
        2.0,
    ):
        yield from ((dense, other), (other, dense), (other, other))


OPERATIONS = {
    "add": torch.add,
    "add with alpha": lambda a, b: torch.add(a, b, alpha=2),
    "add to": lambda a, b: a.clone().add_(b),
    "mul": torch.mul,
    "relu": lambda a, _: torch.relu(a),
    "relu_": lambda a, _: torch.relu_(a.clone()),
    "sub a number": lambda a, _: torch.sub(a, 1, alpha=3),
    "mm": torch.mm,
    "bmm": lambda a, b: torch.bmm(a[None], b[None]),
    "mv": lambda a, b: torch.mv(a, b[0]),
    "addmm": lambda a, b: torch.addmm(a, a, b),
    "addmm of the same": lambda a, b: torch.addmm(b, a, b),
    "addmm of a row": lambda a, b: torch.addmm(torch.ones(3), a, b, beta=0),
    "conv1d": lambda a, b: torch.conv1d(a[None], b[..., None]),
    "conv_transpose1d": lambda a, b: torch.conv_transpose1d(a[None], b[..., None], torch.ones(3)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_joint_function_counts_what_its_formula_and_rule_do(name):
    run, ran = OPERATIONS[name], []

    class Compare(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            ran.append(compare_with_pair(func, out, args, kwargs or {}))
            return out

    with quiet():
        for a, b in (*odd_tensors(), nested()):
            with suppress(RuntimeError, TypeError, AttributeError, IndexError, NotImplementedError), Compare():
                run(a, b)
    assert any(ran)


def nested():
    return (torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]) for _ in range(2))


OTHER_PATHS = {
    "nn.functional.cosine_embedding_loss",
    "nn.functional.hinge_embedding_loss",
    "nn.functional.linear_cross_entropy",
    "nn.functional.margin_ranking_loss",
    "sparse.mm",
}
"""Operators that run other operators where gradients are needed."""


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.formatted_name)
def test_grad_modes_count_the_same_traffic(op):
    modes = torch.enable_grad, torch.no_grad, torch.inference_mode
    with quiet():
        for sample in samples(op, dtypes_of(op)[0]):
            found = []
            for mode in modes:
                seed()
                with mode(), OpCounter() as c:
                    try:
                        op(sample.input, *sample.args, **sample.kwargs)
                    except Exception as error:  # noqa: BLE001  (compared, too)
                        found.append(type(error))
                        continue
                found.append((c.bytes_read, c.bytes_written))
            assert len(set(found)) == 1 or op.name in OTHER_PATHS, found
