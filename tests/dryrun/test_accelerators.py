"""Dry runs of programs on an accelerator: what is computed of known values is on that device, too.

Fake tensors of the program's own stand for a model on a GPU. A build without CUDA indexes none of these with brackets,
and differentiates none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.features import needs

if TYPE_CHECKING:
    from collections.abc import Callable

CUDA = torch.device("cuda", 0)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 4)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("positions", torch.arange(16))
        self.register_buffer("frequencies", torch.arange(2) / 4)

    def forward(self, x: Tensor, step: Callable[[Table, Tensor], Any]) -> Any:
        return step(self, x)


def on(model: nn.Module, device: torch.device) -> nn.Module:
    """Put fake tensors on a device in the place of a model's own."""
    with FakeTensorMode():
        for table in (table for m in model.modules() for table in (m._parameters, m._buffers)):
            for name, value in table.items():
                fake = torch.empty(value.shape, dtype=value.dtype, device=device)
                table[name] = nn.Parameter(fake, requires_grad=False) if isinstance(value, nn.Parameter) else fake
    return model


STEPS: dict[str, Callable[[Table, Tensor], Any]] = {
    "a range": lambda m, x: m.embedding(torch.arange(3, device=x.device) + 1),
    "a range of a buffer": lambda m, _: m.embedding(m.positions.narrow(0, 0, 3)),
    "frequencies": lambda m, x: m.frequencies.reshape(2, 1) @ (torch.arange(3, device=x.device).reshape(1, 3) + 0.0),
    "a mask": lambda _, x: x + torch.full((4, 4), float("-inf"), device=x.device).triu(1),
    "a comparison": lambda _, x: x.masked_fill(torch.arange(4, device=x.device) > 1, 0.0),
    "a number": lambda _, x: x * torch.tensor(2.0).to(x.device),
    "a list": lambda _, x: x + torch.tensor([1, 2, 3, 4]).to(x.device),
    "something like another": lambda _, x: x * torch.zeros_like(x.select(0, 0), dtype=torch.int64).cumsum(0),
    "a small parameter": lambda m, x: x * (m.scale + 1),
    "the largest of some": lambda _, x: torch.arange(4, device=x.device).max() * x,
    "a count": lambda _, x: x * torch.arange(4, device=x.device).eq(1).sum(),
    "a check of one number": lambda _, x: torch.where(torch.isnan(x.sum()), x, x + 1),
    "a factorization": lambda _, x: torch.linalg.cholesky_ex(x).info + torch.zeros((), device=x.device),
    "a written buffer": lambda m, x: x * m.positions.narrow(0, 0, 4).add_(1),
}


@needs("fake tensors on a GPU that is not there")
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_dry_run_counts_on_an_accelerator_what_it_counts_on_the_cpu(step: Callable[[Table, Tensor], Any]) -> None:
    counts = []
    for device in (torch.device("cpu"), CUDA):
        model = on(Table(), device)
        with FakeTensorMode():
            x = torch.empty(4, 4, device=device)
        with torch.no_grad(), OpCounter(model, dry_run=True) as c:
            out = model(x, step)
        assert out.device == device
        counts.append((c.macs, c.arith, c.coverage.uncounted))
    assert counts[0] == counts[1]


@needs("fake tensors on a GPU that is not there")
@pytest.mark.parametrize("device", [torch.device("cpu"), CUDA])
def test_what_a_dry_run_knows_on_an_accelerator_can_be_read_there(device: torch.device) -> None:
    model = on(Table(), device)
    with OpCounter(model, dry_run=True):
        known = torch.arange(3, device=device) + 1
        assert known.device == device
        assert known.tolist() == [1, 2, 3]
        assert known.max().item() == 3
        assert known.add_(1).tolist() == [2, 3, 4]


@needs("fake tensors on a GPU that is not there")
def test_one_hot_looks_at_its_indices_on_the_cpu_alone() -> None:
    with OpCounter() as real:
        nn.functional.one_hot(torch.zeros(5, dtype=torch.int64), 4)
    assert real.arith in {5, 10}  # the least and the greatest index, at once or one after the other
    counts = []
    for device in (torch.device("cpu"), CUDA):
        with FakeTensorMode():
            indices = torch.empty(5, dtype=torch.int64, device=device)
        with OpCounter(dry_run=True) as c:
            assert nn.functional.one_hot(indices.clone(), 4).shape == (5, 4)
        counts.append(c.arith)
    assert counts == [real.arith, 0]


def test_memory_of_a_parameter_is_what_a_tensor_can_be_set_to() -> None:
    def view(weight: Tensor) -> Tensor:
        return torch.empty(0).set_(weight.detach().untyped_storage(), 2, (4,), (1,)) * torch.ones(4)

    model = nn.Linear(3, 3)
    counts = []
    for dry_run in (False, True):
        with OpCounter(model, dry_run=dry_run) as c:
            view(model.weight)
        counts.append(c.arith)
    assert counts == [4, 4]


aten = torch.ops.aten


def test_the_gradients_of_a_recurrent_layer_have_the_shapes_of_what_they_are_for() -> None:
    x, state, weights = torch.ones(5, 2, 3), torch.ones(1, 2, 4), [torch.ones(16, 3), torch.ones(16, 4)]
    out, reserve = torch.ones(5, 2, 4), torch.ones(0, dtype=torch.uint8)
    lstm = (2, 4, 0, 1, False, 0.0, True, False, [], None, reserve)
    with OpCounter(dry_run=True) as c:
        for mask in ([True] * 4, [True, False, False, False]):
            found = aten._cudnn_rnn_backward(x, weights, 2, reserve, state, state, out, out, state, state, *lstm, mask)
            dx, dh, dc, dw = found
            assert dx.shape == x.shape
            assert [None if g is None else g.shape for g in (dh, dc)] == [
                state.shape if on else None for on in mask[1:3]
            ]
            assert [g.shape for g in dw] == [w.shape for w in weights if mask[3]]
    assert c.macs == 3 * (5 * 2) * 16 * (3 + 4)  # data and weights, then data alone


@pytest.mark.parametrize(("mode", "gates", "cell"), [(2, 4, True), (3, 3, False), (1, 1, False)])
def test_a_recurrent_layer_of_cudnns_is_counted_dry_forward_and_backward(mode: int, gates: int, cell: bool) -> None:
    x = torch.ones(5, 2, 3, requires_grad=True)
    weights = [torch.ones(gates * 4, 3, requires_grad=True), torch.ones(gates * 4, 4, requires_grad=True)]
    state = torch.ones(1, 2, 4)
    with OpCounter(dry_run=True) as c:
        out, *_ = aten._cudnn_rnn(
            x, weights, 2, None, state, state if cell else None, mode, 4, 0, 1, False, 0.0, True, False, [], None
        )
        out.sum().backward()
    forward = (5 * 2) * gates * 4 * (3 + 4)
    assert {phase: total.macs for phase, total in c.by_phase().items()} == {"forward": forward, "backward": 2 * forward}
    assert c.by_operator()["aten._cudnn_rnn.default"].bytes == 4 * (5 * 2 * 4 + (1 + cell) * 2 * 4)  # without weights
    assert c.coverage.complete


def test_a_state_of_dropout_that_cudnn_would_keep_is_refused() -> None:
    names: dict[str, Any] = {"torch": torch}
    source = "def draw():\n    return torch.empty((), dtype=torch.int64).random_()"
    exec(compile(source, nn.modules.rnn.__file__, "exec"), names)  # noqa: S102  (what ATen does when it is called there)
    before = torch.get_rng_state()
    with pytest.raises(DryRunError, match="cuDNN keeps the state"), OpCounter(dry_run=True):
        names["draw"]()
    assert torch.equal(before, torch.get_rng_state())
