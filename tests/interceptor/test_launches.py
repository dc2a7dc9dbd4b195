"""Launches that pass no dispatcher are named: replayed CUDA graphs, kernels of jiterator. Captures are left alone."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from opcount import OpCounter

pytestmark = pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning")

REPLAY = "torch.cuda.CUDAGraph.replay"


@pytest.fixture
def replay(monkeypatch):
    """A CUDA graph's replay, without a device."""
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda _graph: None)
    return lambda: torch.cuda.CUDAGraph.replay(object())


def test_a_replayed_graph_is_named_in_the_module_that_replays_it(replay):
    class Graphed(torch.nn.Module):
        def forward(self, x):
            replay()
            return x

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Graphed())
    with OpCounter(model) as c:
        model(torch.ones(1, 2))
        replay()
    assert {r.path: r.calls for r in c.profile.records if r.operator == REPLAY} == {"": 1, "1": 1}
    assert not c.coverage.complete


def test_every_counter_around_a_replay_names_it_and_none_that_is_paused(replay):
    with OpCounter() as outer, OpCounter() as inner, OpCounter() as paused:
        paused.pause()
        replay()
    assert set(outer.coverage.uncounted) == set(inner.coverage.uncounted) == {REPLAY}
    assert paused.coverage.complete


def test_a_graph_is_replayed_as_before_after_a_block(replay):
    with OpCounter() as c:
        pass
    replay()
    assert c.coverage.complete


def test_a_kernel_of_jiterator_is_named_and_returns_what_it_returns(monkeypatch):
    def launch(_code, _name, _by_reference, _outputs, tensors, options):
        return torch.from_numpy(tensors[0].numpy() * options["a"])

    monkeypatch.setattr(torch._C, "_cuda_jiterator_compile_and_launch_kernel", launch, raising=False)
    kernel = torch.cuda.jiterator._create_jit_fn("template <typename T> T scaled(T x, T a) { return a * x; }", a=3)
    kernel.is_cuda_available = True
    with OpCounter() as c:
        assert kernel(torch.ones(2), a=2).tolist() == [2, 2]
    assert set(c.coverage.uncounted) == {"torch.cuda.jiterator.scaled"}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("name", ["grouped product", "sparse product"])
def test_values_are_not_read_while_a_graph_is_captured(monkeypatch, name):
    for module in ("_operands", "sparse"):
        monkeypatch.setattr(f"opcount.formulas.{module}.is_captured", lambda _: True)
    a, b = torch.ones(4, 8, dtype=torch.bfloat16), torch.ones(2, 8, 8, dtype=torch.bfloat16)
    s, ends = torch.eye(3).to_sparse(), torch.tensor([1, 4], dtype=torch.int32)
    with OpCounter() as c:
        F.grouped_mm(a, b, offs=ends) if name == "grouped product" else torch.sparse.mm(s, s)
    assert len(c.coverage.uncounted) == 1
    assert c.macs == 0
