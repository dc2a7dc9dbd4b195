"""A dry run holds on every thread that runs its modules, a backward or an optimizer, or that it starts."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[[Callable[[], Any]], Any]


def on_a_thread(work: Callable[[], Any]) -> Any:
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0] if found else None


def by_a_subclass(work: Callable[[], Any]) -> Any:
    class Worker(threading.Thread):
        def run(self) -> None:
            self.found = work()

    worker = Worker()
    worker.start()
    worker.join()
    return worker.found


def in_a_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def on_a_nested_thread(work: Callable[[], Any]) -> Any:
    return on_a_thread(lambda: in_a_pool(work))


@pytest.fixture(params=["begun before", "given a task", "of processes' kind"])
def older(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run functions on a thread that is older than the block."""
    if request.param == "of processes' kind":
        with ThreadPool(1) as threads:
            yield threads.apply
            threads.close()
            threads.join()
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield lambda work: pool.submit(work).result()


RUNS: list[Run] = [on_a_thread, by_a_subclass, in_a_pool, on_a_nested_thread]


class Block(nn.Module):
    """Writes to buffers of all kinds: floating-point, integer, by batch norm and by a parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = spectral_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4)
        self.average: Tensor
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.average.lerp_(x.detach().mean(0), 0.1)
        return self.norm(checkpoint(self.linear, x, use_reentrant=False)).relu()  # type: ignore[no-any-return]


def rows(c: OpCounter) -> dict[object, object]:
    return {r.key: (r.calls, r.cost, r.bytes) for r in c.profile.records if r.family != "free"}


def same(program: Callable[[nn.Module], object], model: nn.Module) -> None:
    """Expect a dry run to say what a real one says, and to leave the model alone."""
    torch.manual_seed(0)
    real_model, before = copy.deepcopy(model), copy.deepcopy(model)
    with OpCounter(real_model) as real:
        program(real_model)
    with OpCounter(model, dry_run=True) as dry:
        program(model)
    assert rows(dry) == rows(real)
    assert rows(real)
    for name, value in before.state_dict().items():
        assert type(model.state_dict()[name]) is Tensor
        assert torch.equal(model.state_dict()[name], value), name
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("run", RUNS)
def test_a_forward_on_another_thread_is_as_here(run: Run) -> None:
    same(lambda model: run(lambda: model(torch.randn(3, 4))), Block())


def test_a_forward_on_an_older_thread_is_as_here(older: Run) -> None:
    same(lambda model: older(lambda: model(torch.randn(3, 4))), Block())


def train(model: nn.Module, forward: Run, backward: Run, step: Run) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        loss = forward(lambda: model(torch.randn(3, 4, requires_grad=True))).sum()
        backward(loss.backward)
        step(optimizer.step)
        optimizer.zero_grad()


def here(work: Callable[[], Any]) -> Any:
    return work()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("where", range(4))
def test_training_on_other_threads_is_as_here(run: Run, where: int) -> None:
    ways = [run if where in (i, 3) else here for i in range(3)]
    same(lambda model: train(model, *ways), Block())


@pytest.mark.parametrize("where", range(4))
def test_training_on_an_older_thread_is_as_here(older: Run, where: int) -> None:
    ways = [older if where in (i, 3) else here for i in range(3)]
    same(lambda model: train(model, *ways), Block())


def test_a_sparse_buffer_is_multiplied_in_a_backward_on_another_thread() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("graph", torch.eye(4).to_sparse(), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return (self.graph @ x.t()).t()  # type: ignore[operator]

    model = Graph()
    macs = []
    for dry in (False, True):
        with OpCounter(model, dry_run=dry) as c:
            on_a_thread(model(torch.randn(3, 4, requires_grad=True)).sum().backward)
        macs.append(c.macs)
    assert macs == [2 * 4 * 3] * 2  # four stored elements with three columns, forward and backward


class Out(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        made = torch.empty(0)
        torch.mul(x, 2, out=made)
        return made.mean()


def test_a_result_that_is_given_gets_its_size_on_another_thread() -> None:
    same(lambda model: on_a_thread(lambda: model(torch.randn(3, 4))), Out())


class Selects(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x[:, 0] > 0]


class Fails(nn.Module):
    """Raises what only fake tensors make a program raise, where no operator runs."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, FakeTensor):
            raise TypeError("expected a tensor that is no FakeTensor")
        return x


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("run", [on_a_thread, in_a_pool])
@pytest.mark.parametrize(
    ("part", "operator"), [(Selects(), "aten.index.Tensor"), (Fails(), "")], ids=["values", "fake"]
)
def test_a_refusal_on_another_thread_is_raised_on_leaving(part: nn.Module, operator: str, run: Run) -> None:
    model = nn.Sequential(nn.Sigmoid(), part)
    with pytest.raises(DryRunError, match=r"test_threads\.py") as caught, OpCounter(model, dry_run=True):
        run(lambda: model(torch.randn(3, 4)))
    assert caught.value.operator == operator
    assert caught.value.module == ("1" if operator else "")
    assert caught.value.file == __file__


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_follows_a_refusal_on_another_thread_is_not_what_is_raised() -> None:
    model = nn.Sequential(nn.Sigmoid(), Selects())
    with pytest.raises(DryRunError, match="in 1 "), OpCounter(model, dry_run=True):
        on_a_thread(lambda: model(torch.randn(3, 4))).sum()  # None has no sum


@pytest.mark.parametrize("run", RUNS)
def test_a_function_that_writes_to_weights_on_another_thread_does_not(run: Run) -> None:
    model = nn.Linear(4, 4)
    before = copy.deepcopy(model.state_dict())

    def average() -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)

    with OpCounter(model, dry_run=True):
        run(average)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)


def test_another_models_training_on_an_older_thread_is_real() -> None:
    ours, theirs = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    begin, done = threading.Event(), threading.Event()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)

    def work() -> None:
        begin.wait(10)
        theirs(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        done.set()

    before = theirs[0].weight.detach().clone()
    worker = threading.Thread(target=work)
    worker.start()
    with OpCounter(ours, dry_run=True):
        begin.set()
        done.wait(10)
    worker.join()
    assert int(theirs[1].num_batches_tracked) == 1
    assert type(theirs[0].weight.grad) is Tensor
    assert not torch.equal(theirs[0].weight, before)
    assert len(optimizer.state) == 4  # two weights and two biases with their momentum


def test_a_thread_that_outlives_the_block_runs_for_real_then() -> None:
    over, model = threading.Event(), nn.Linear(4, 4)
    found: list[Tensor] = []

    def work() -> None:
        found.append(model(torch.randn(2, 4)))
        over.wait(10)
        found.append(model(torch.randn(2, 4)))

    worker = threading.Thread(target=work)
    with OpCounter(model, dry_run=True):
        worker.start()
        while not found:
            pass
    over.set()
    worker.join()
    assert type(found[1]) is Tensor
    assert type(found[0]) is not Tensor


def test_threads_are_started_as_before_after_the_block() -> None:
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    thread = threading.Thread(target=int)
    with OpCounter(dry_run=True):
        thread.start()
        thread.join()
    assert "run" not in vars(thread)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)


def test_threads_at_once_say_what_one_after_the_other_says() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.LazyLinear(3).cpu())
    model = nn.Sequential(*model[:3], nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 3))

    def work(length: int) -> Tensor:
        out: Tensor = model(torch.randn(2, 2, length)).log_softmax(1)
        out.sum().backward()
        return out

    totals = []
    for workers in (1, 8):
        with OpCounter(model, dry_run=True) as c, ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, [5 + i % 40 for i in range(80)]))
        totals.append((c.macs, c.arith))
    assert totals[0] == totals[1]
    # In the forward, a window of six weights for each of four channels, and the last layer; twice that in the backward,
    # but that the data need no gradient.
    forward = sum(2 * 4 * 6 * (5 + i % 40 - 2) for i in range(80))
    assert totals[0][0] == 2 * forward + 3 * 80 * 2 * 12 * 3


@pytest.mark.parametrize("outer_is_dry", [False, True])
def test_counters_around_a_dry_run_see_what_it_answers(older: Run, outer_is_dry: bool) -> None:
    model, other = Block(), nn.Linear(4, 5)
    before = copy.deepcopy(model.state_dict())

    def program() -> None:
        for run in (here, on_a_thread, older):
            for _ in range(2):
                run(lambda: model(torch.randn(3, 4)))

    with OpCounter(model if outer_is_dry else None, dry_run=outer_is_dry) as outer:
        with OpCounter(model, dry_run=True) as inner:
            program()
        if outer_is_dry:
            program()
            with OpCounter(other, dry_run=True) as another:
                for run in (here, on_a_thread, older):
                    run(lambda: other(torch.randn(3, 4)))
    assert inner.macs == 3 * 2 * (3 * 4 * 4 + 2 * 4 * 4 + 4 * 4 + 4)  # the layer, and its norm by three products
    assert outer.macs == (2 * inner.macs + 3 * 3 * 4 * 5 if outer_is_dry else inner.macs)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not outer_is_dry or another.macs == 3 * 3 * 4 * 5
    assert older(lambda: type(torch.ones(1) + 1)) is Tensor
    assert older(torch._C._len_torch_dispatch_stack) == 0
