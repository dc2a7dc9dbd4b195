"""Kernels that pass no dispatcher are named: Triton, CUDA graphs, jiterator; and nothing waits for the device."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from opcount import Device, Meter, OpCounter
from opcount.errors import UncountedOperatorWarning
from tests.cuda import needs_cuda

needs_cuda()

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

pytestmark = [
    pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),  # of modules that the compiler imports
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),
]


@contextmanager
def waiting_is_an_error():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@triton.jit
def double_kernel(x, out, n, block: tl.constexpr):
    """Write ``2 * x``."""
    where = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(out + where, 2 * tl.load(x + where, mask=where < n), mask=where < n)


def launch(x):
    x = x.contiguous()
    out = torch.empty_like(x)
    double_kernel[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), block=256)
    return out


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return launch(x)

    @staticmethod
    def backward(ctx, grad):
        return launch(grad)


def test_a_triton_kernel_in_a_function_is_named_forward_and_backward():
    x = torch.ones(1000, device="cuda", requires_grad=True)
    with OpCounter() as c:
        out = Double.apply(x)
        out.sum().backward()
    assert out.detach().eq(2).all()
    assert x.grad.eq(2).all()
    assert set(c.coverage.uncounted) == {"autograd.Double", "autograd.DoubleBackward"}


def test_a_triton_kernel_outside_of_a_function_is_noticed_when_its_output_is_read():
    x = torch.ones(1000, device="cuda")
    with OpCounter() as c:
        launch(x).sum()
    assert not c.coverage.complete


def test_a_triton_operator_is_named():
    @torch.library.triton_op("opcount_tests::double", mutates_args={})
    def double(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        torch.library.wrap_triton(double_kernel)[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), block=256)
        return out

    with OpCounter() as c:
        out = double(torch.ones(1000, device="cuda"))
    assert out.eq(2).all()
    assert not c.coverage.complete


def test_a_replayed_graph_is_named():
    model, x = nn.Linear(8, 8).cuda(), torch.ones(2, 8, device="cuda")
    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            model(x)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(x)
    with OpCounter(model) as c:
        graph.replay()
    assert set(c.coverage.uncounted) == {"torch.cuda.CUDAGraph.replay"}


def test_a_capture_under_a_counter_is_counted_and_can_be_replayed():
    model, x = nn.Linear(8, 8).cuda(), torch.ones(2, 8, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), OpCounter(model) as c:
        model(x)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            out = model(x)
    x.fill_(2)
    graph.replay()
    torch.testing.assert_close(out, model(x))
    assert c.macs == 2 * 2 * 8 * 8


def test_a_kernel_of_jiterator_is_named():
    cube = torch.cuda.jiterator._create_jit_fn("template <typename T> T cube(T x) { return x * x * x; }")
    with OpCounter() as c:
        cube(torch.ones(4, device="cuda"))
    assert not c.coverage.complete


def test_a_compiled_model_counts_as_an_eager_one():
    model, x = nn.Sequential(nn.Linear(16, 16), nn.GELU()).cuda(), torch.ones(2, 16, device="cuda")
    compiled = torch.compile(model)
    compiled(x)
    with OpCounter(model) as c:
        compiled(x).sum().backward()
    assert c.coverage.complete
    assert c.macs == 2 * 2 * 16 * 16


def test_a_counter_never_waits_for_the_device():
    model, x = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)).cuda(), torch.ones(4, 16, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    model(x).sum().backward()
    optimizer.step()
    with waiting_is_an_error(), OpCounter(model, memory=True) as c:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert c.macs == 2 * 4 * 16 * 16


def test_the_device_is_found_by_the_name_that_it_gives_itself():
    device = Device.current()
    assert device.name in torch.cuda.get_device_name() or torch.cuda.get_device_name() in device.reports
    assert device.memory == torch.cuda.get_device_properties(0).total_memory


def test_a_meter_reads_the_time_of_the_device_without_waiting_in_a_step():
    model = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(4))).cuda().to(torch.bfloat16)
    x = torch.randn(4096, 2048, device="cuda", dtype=torch.bfloat16)
    meter = Meter(model, every=50)

    def step():
        model(x).square().mean().backward()
        model.zero_grad()

    with meter.step():
        step()
    with waiting_is_an_error():
        for _ in range(49):
            with meter.step():
                step()
    found = meter.read()
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begun.record()
    for _ in range(found.timed_steps):
        step()
    ended.record()
    ended.synchronize()
    seconds = begun.elapsed_time(ended) / 1000
    flops = 2 * 4096 * 2048 * 2048 * (4 * 3 - 1)  # the input needs no gradient
    assert found.seconds == pytest.approx(seconds, rel=0.1)
    assert found.mfu == pytest.approx(
        found.timed_steps * flops / found.seconds / Device.current().peaks["bfloat16"], rel=0.01
    )
    assert 0.1 < found.mfu < 1


def test_warnings_name_what_is_not_counted():
    with pytest.warns(UncountedOperatorWarning, match="Double"), OpCounter():
        Double.apply(torch.ones(8, device="cuda"))
