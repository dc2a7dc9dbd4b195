"""Values of small tensors are known until something unknown is written to them."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable

LINEAR = nn.Linear(4, 4)
"""16 MACs for each row."""


def macs(run: Callable[[], object], model: nn.Module | None = None, *, dry: bool = True) -> int:
    with OpCounter(model, dry_run=dry) as c:
        run()
    return c.macs


def rows(*sizes: Tensor | int) -> Callable[[], object]:
    """Return a program that gives as many rows to a layer as a tensor says, each time."""
    return lambda: [LINEAR(torch.randn(9, 4)[: int(size)]) for size in sizes]


def test_flags_and_counters_in_buffers_are_known_and_put_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("ready", torch.tensor(False))
            self.register_buffer("steps", torch.tensor(0))

        def forward(self, x: Tensor) -> Tensor:
            if not self.ready:
                self.ready.fill_(True)
                x = self.linear(x)
            self.steps += 1
            return self.linear(x)[: self.steps.item()]  # type: ignore[no-any-return]

    model = Counts()
    assert macs(lambda: [model(torch.randn(2, 4)) for _ in range(2)], model) == 3 * 2 * 16
    assert (model.ready.item(), model.steps.item()) == (False, 0)


@pytest.mark.parametrize(
    "size",
    [
        lambda: torch.tensor([1, 2]).sum(),
        lambda: torch.arange(4).max(),
        lambda: torch.full((), 3),
        lambda: torch.div(7, 2, rounding_mode="trunc"),
        lambda: torch.add(1, 2),
        lambda: torch.linspace(0, 3, 5)[4],
        lambda: (torch.arange(6) % 2 == 0).nonzero().numel(),
        lambda: torch.unique(torch.tensor([1, 1, 5, 7])).shape[0],
        lambda: len(torch.tensor([4, 2, 8]).tolist()),
        lambda: np.asarray(torch.tensor([1, 2])).sum(),
        lambda: torch.zeros(5, dtype=torch.long).index_add_(0, torch.tensor([1, 1]), torch.tensor([1, 2]))[1],
        lambda: torch.empty(2, dtype=torch.long).fill_(3)[0],
        lambda: copy.deepcopy(torch.tensor(3)),
        lambda: int(f"{torch.tensor(3):d}"),
        lambda: torch._shape_as_tensor(torch.randn(3, 5)).cumsum(0)[0],
    ],
)
def test_what_is_computed_of_known_values_is_known(size: Callable[[], Any]) -> None:
    def program() -> None:
        rows(size())()

    assert macs(program) == 3 * 16


def test_results_may_be_written_to_integers_that_were_computed() -> None:
    """Their values are unknown from then on: a number of rows among them is refused."""

    def program(*, ask: bool) -> None:
        buckets = (torch.arange(3) > 1).to(torch.int64) * 2
        buckets += LINEAR(torch.randn(3, 4)).argmax(-1)
        LINEAR(torch.randn(9, 4)[buckets])
        if ask:
            LINEAR(torch.randn(9, 4)[: buckets.tolist()[0]])

    assert macs(lambda: program(ask=False)) == (3 + 3) * 16
    with pytest.raises(DryRunError, match="tolist"):
        macs(lambda: program(ask=True))


def test_a_view_of_what_is_known_sees_what_is_written_to_it() -> None:
    def program() -> None:
        counts = torch.zeros(4, dtype=torch.long)
        last = counts[2:]
        counts += 1
        last[0] = 2
        rows(counts.sum() - 2, counts[2:].view(2)[0] + 1)()

    assert macs(program) == 2 * 3 * 16  # 1 + 1 + 2 + 1 - 2 and 2 + 1


@pytest.mark.parametrize("made", [lambda: torch.zeros(4, dtype=torch.long), lambda: nn.Buffer(torch.zeros(4).long())])
@pytest.mark.parametrize(
    "read",
    [
        Tensor.tolist,
        Tensor.numpy,
        lambda t: t[0].item(),
        lambda t: bool(t[2] > 0),
        lambda t: torch.tensor([1, (t + 1)[0]]).tolist(),
        lambda t: torch.as_tensor([[t[0], t[1]]]).tolist(),
        lambda t: t.new_tensor([t[0]]).tolist(),
        lambda t: torch.randn(9).tensor_split(t.clone())[0].tolist(),
    ],
)
def test_what_something_unknown_is_written_to_is_not_known_nor_are_its_views(
    made: Callable[[], Tensor], read: Callable[[Tensor], object]
) -> None:
    model = nn.Module()
    model.register_buffer("counts", made())

    def program() -> None:
        view = model.counts.view(2, 2)
        view[0, 0] = LINEAR(torch.randn(1, 4)).argmax()
        read(model.counts)

    with pytest.raises(DryRunError):
        macs(program, model)
    assert model.counts.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.tolist(),
        lambda t: t.numpy(),
        lambda t: t[0].item(),
        lambda t: torch.tensor([1, t[0]]),
        lambda t: torch.tensor(data=t),
        lambda t: torch.as_tensor(((t[0], 2),)),
        lambda t: torch.asarray([t[0]]),
        lambda t: t.new_tensor([t[0]]),
        lambda t: torch.tensor_split(torch.randn(9), t),
        lambda t: torch.randn(9)[: t[0]],
        lambda t: (torch.arange(2) + t[0]).tolist(),
    ],
)
def test_computed_integers_that_something_unknown_is_written_to_are_not_known(read: Callable[[Tensor], object]) -> None:
    def program() -> None:
        counts = torch.tensor([1, 2])
        counts[:1] += LINEAR(torch.randn(1, 4)).argmax()
        read(counts)

    with pytest.raises(DryRunError):
        macs(program)


def test_a_tensor_whose_shape_alone_is_asked_need_not_be_known() -> None:
    written = torch.zeros(4)

    def program() -> None:
        written.copy_(LINEAR(torch.randn(4)))
        rows(written.new_tensor(2), written.tensor_split(2)[0].numel() + 1)()

    assert macs(program) == (1 + 2 + 3) * 16


def test_computed_integers_are_known_again_when_all_of_them_are_overwritten() -> None:
    def program() -> None:
        counts = torch.tensor([1, 2])
        counts += LINEAR(torch.randn(1, 4)).argmax()
        counts.fill_(3)
        rows(*torch.tensor([counts[0], 1]))()

    assert macs(program) == (1 + 3 + 1) * 16


def test_ones_of_a_library_are_no_data() -> None:
    file = Path(torch.__file__).parents[1] / "library" / "windows.py"
    library: dict[str, Any] = {"torch": torch}
    exec(compile("def weight(size):\n    return torch.ones(size).min().item()", file, "exec"), library)  # noqa: S102

    def program() -> None:
        rows(int(3 * library["weight"]((2, 2))))()

    assert macs(program) == 3 * 16
    with pytest.raises(DryRunError):
        macs(lambda: torch.ones(2, 2).min().item())


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_a_function_that_makes_tensors_can_be_scripted_inside() -> None:
    scripted = []
    macs(lambda: scripted.append(torch.jit.script(scaled)))
    assert scripted[0](torch.ones(1)) == 2.0


def scaled(x: Tensor) -> Tensor:
    return x * torch.tensor([2.0])


def test_masks_and_lengths_that_are_known_decide_sizes() -> None:
    mask, repeats, lengths = torch.arange(9) < 3, torch.tensor([1, 2]), torch.tensor([2, 1])
    x, lstm = torch.randn(9, 4), nn.GRU(4, 2)

    def program() -> None:
        y = torch.zeros(9, 4)
        y[mask] = LINEAR(torch.randn(9, 4)[mask])
        LINEAR(torch.randn(9, 4).masked_select(mask[:, None]).view(-1, 4))
        LINEAR(torch.randn(2, 4).repeat_interleave(repeats, 0))
        packed = rnn.pack_padded_sequence(torch.randn(3, 2, 4), lengths)
        out, _ = rnn.pad_packed_sequence(lstm(packed)[0])
        assert out.shape == (2, 2, 2)
        rnn.pad_packed_sequence(lstm(rnn.pack_sequence([x[:3], x[:1]]))[0])

    assert macs(program) == macs(program, dry=False)
    assert macs(program) == 3 * 3 * 16 + (3 + 4) * 3 * 2 * (4 + 2)  # rows; steps, gates, states, inputs and states


def test_a_loss_over_lengths_is_counted_as_a_real_one() -> None:
    criterion = nn.CTCLoss(reduction="sum")
    targets, steps, lengths = torch.randint(1, 6, (2, 3)), torch.tensor([8, 7]), torch.tensor([3, 2])
    counts = []
    for dry in (False, True):
        model = nn.Linear(4, 6)
        with OpCounter(model, dry_run=dry) as c:
            criterion(model(torch.randn(8, 2, 4)).log_softmax(-1), targets, steps, lengths).backward()
            criterion(model(torch.randn(8, 2, 4)).log_softmax(-1), targets, (8, 7), (3, 2)).backward()
        counts.append([(r.key, r.calls, r.cost) for r in c.profile.records if r.family != "free"])
    assert sorted(map(str, counts[0])) == sorted(map(str, counts[1]))


@pytest.mark.parametrize("make", [lambda: torch.randn(1, 4), lambda: torch.ones(1, 4)])
def test_what_the_program_draws_is_not_known_nor_what_a_layer_makes_of_it(make: Callable[[], Tensor]) -> None:
    for program in (lambda: LINEAR(make()).tolist(), lambda: make().tolist()):
        with pytest.raises(DryRunError):
            macs(program)


def test_small_products_of_what_is_known_are_known() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    kernel = torch.ones(1, 1, 2)

    def program() -> None:
        corner = turn @ torch.linalg.inv(turn) @ torch.tensor([3.0, 2.0])
        width = torch.nn.functional.conv1d(torch.ones_like(kernel) + 0.5, kernel)
        rows(corner.round().sum(), width.sum(), torch.linalg.cholesky(4 * torch.eye(2)).sum())()

    for dry in (True, False):
        assert macs(program, dry=dry) - macs(lambda: None, dry=dry) >= (5 + 3 + 4) * 16
    assert macs(program) == macs(program, dry=False)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="what calls a comparison cannot be told")
@pytest.mark.parametrize("choose", [max, min, lambda *sizes: sorted(sizes)[1]])
def test_a_comparison_by_a_function_of_python_runs_the_operator_of_a_real_run(choose: Callable[..., Any]) -> None:
    class Pads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("left", torch.tensor(3))
            self.register_buffer("right", torch.tensor(2))

        def forward(self, x: Tensor) -> Tensor:
            x = x[: max(self.left, self.right + 0)][: min(self.right + 1, self.left)]
            return self.linear(x)[: choose(self.right + 0, self.left)]  # type: ignore[no-any-return]

    assert_same_counts(Pads, lambda model: model(torch.randn(9, 4)))


def test_a_small_parameter_is_known_until_an_optimizer_has_stepped() -> None:
    scale = nn.Parameter(torch.tensor(3.0))
    optimizer = torch.optim.SGD([scale], lr=0.1)

    def program() -> None:
        rows(scale.detach())()
        (LINEAR(torch.randn(1, 4)).sum() * scale).backward()
        optimizer.step()
        rows(scale.detach())()

    with pytest.raises(DryRunError, match="_local_scalar_dense"):
        macs(program)
    assert scale.item() == 3
    assert scale.grad is None


class Checks(nn.Module):
    """Runs a check on data of which a dry run has no values, and one product."""

    def __init__(self, check: Callable[[Any, Any], object]) -> None:
        super().__init__()
        self.check = check

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.check(x, y)
        return x @ y


def _checks_a_number(x: Any, y: Any) -> None:
    limit = 19
    if x.argmax().item() > limit:
        raise ValueError(x)
    if limit < y.argmax().item() or not x.sum().item() <= sys.maxsize:
        raise ValueError(y)


def _raises_for_unequal(x: Any, y: Any) -> None:
    if not torch.equal(x, y):
        raise ValueError(x)
    if not torch.allclose(x, y):
        raise ValueError(y)


def _warns_for_unequal(x: Any, y: Any) -> None:
    if not torch.equal(x, y):
        warnings.warn("unequal", stacklevel=1)


def _decides_by_a_number(x: Any, _y: Any) -> None:
    if x.argmax().item() <= 1:
        x.relu()


def _keeps_a_checked_number(x: Any, _y: Any) -> None:
    if (number := x.argmax().item()) > 9:
        raise ValueError(x)
    torch.zeros(number)


def _compares_twice(x: Any, _y: Any) -> None:
    limit = 3
    if not 0 <= x.argmax().item() <= limit:
        x.relu()


def _catches_what_it_raises(x: Any, _y: Any) -> None:
    try:
        if x.argmax().item() > 1:
            raise ValueError(x)  # noqa: TRY301  (the point of it)
    except ValueError:
        x.relu()


def _bounds_what_is_not_finite(x: Any, y: Any) -> None:
    if not torch.isfinite(x).all():
        limit = torch.finfo(x.dtype).max - 1000
        x = torch.clamp(x, min=-limit, max=limit)
    if y.dim() == 2 and (torch.isinf(y).any() or torch.isnan(y).any()):
        y = y.nan_to_num()


def _computes_what_is_not_finite(x: Any, y: Any) -> None:
    if not torch.isfinite(x).all():
        y = x.relu()
    y.relu()


def _bounds_by_value(x: Any, _y: Any) -> None:
    if (x > 1).any():
        x = x.clamp(max=1)


def _decides_by_equality(x: Any, y: Any) -> None:
    if torch.equal(x, y):
        x.relu()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="blocks that catch errors cannot be told")
@pytest.mark.parametrize(
    "check", [_checks_a_number, _raises_for_unequal, _warns_for_unequal, _bounds_what_is_not_finite]
)
def test_checks_of_unknown_values_in_a_module_pass(check: Callable[[Any, Any], object]) -> None:
    macs = []
    for dry_run in (False, True):
        with OpCounter(dry_run=dry_run) as counter:
            x = torch.rand(4, 4)
            Checks(check)(x, x.clone())
        macs.append(counter.macs)
    assert macs == [64, 64]


@pytest.mark.parametrize(
    "check",
    [
        _decides_by_a_number,
        _keeps_a_checked_number,
        _compares_twice,
        _catches_what_it_raises,
        _decides_by_equality,
        _computes_what_is_not_finite,
        _bounds_by_value,
    ],
)
def test_a_module_decides_by_no_unknown_value(check: Callable[[Any, Any], object]) -> None:
    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        Checks(check)(torch.rand(4, 4), torch.rand(4, 4))


def test_tensors_of_different_shapes_are_unequal() -> None:
    with OpCounter(dry_run=True) as counter:
        if not torch.equal(torch.rand(4, 4), torch.rand(4, 3)):
            torch.rand(4, 4) @ torch.rand(4, 4)
    assert counter.macs == 64
