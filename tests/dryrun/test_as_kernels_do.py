"""A dry run returns the strides and raises the errors of a real run's kernels."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from opcount import OpCounter
from opcount.errors import DryRunError


def rows(run, *, dry):
    with OpCounter(dry_run=dry) as c:
        run()
    return {r.key: (r.calls, r.cost, r.bytes_written, r.bytes_read) for r in c.profile.records if r.family != "free"}


def normalized(x, *, affine, training):
    weight = torch.ones(4) if affine else None
    return functional.batch_norm(x, torch.zeros(4), torch.ones(4), weight, weight, training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("dims", [(0, 2, 1), (0, 1, 2)])
def test_a_linear_layer_behind_a_batch_norm_becomes_the_same_products(dims, affine, training):
    layer = nn.Linear(4, 4)

    def run():
        x = torch.randn(2, 4, 4).permute(dims)
        layer(normalized(x, affine=affine, training=training).transpose(1, 2))

    assert rows(run, dry=True) == rows(run, dry=False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_batch_norm_of_images_keeps_their_layout(layout):
    def strides(*, dry):
        with OpCounter(dry_run=dry):
            x = torch.randn(2, 4, 3, 5).contiguous(memory_format=layout)
            return normalized(x, affine=True, training=True).stride()

    assert strides(dry=True) == strides(dry=False)


def test_gradients_that_nobody_asked_for_are_no_bytes():
    layer = nn.BatchNorm1d(4)

    def run():
        layer(torch.randn(3, 4)).sum().backward()

    assert rows(run, dry=True) == rows(run, dry=False)


def test_what_a_recurrent_kernel_keeps_for_itself_is_no_bytes():
    layer = nn.LSTM(4, 6)

    def run():
        layer(torch.randn(5, 3, 4))

    assert rows(run, dry=True) == rows(run, dry=False)
    [bytes_written] = [numbers[2] for key, numbers in rows(run, dry=True).items() if "mkldnn_rnn_layer" in key[1]]
    assert bytes_written == 4 * (5 * 3 * 6 + 2 * 3 * 6)  # outputs, and two last states


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: x.softmax(9), IndexError),
        (lambda x: x.sort(9), IndexError),
        (lambda x: x.sort(dim=-4, stable=True), IndexError),
        (lambda x: x[0] @ x[0].double(), RuntimeError),
        (lambda x: torch.baddbmm(x, x, x.double()), RuntimeError),
        (lambda x: functional.linear(x, torch.ones(2, 3, dtype=torch.double), torch.ones(2)), RuntimeError),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_a_kernel_refuses_is_refused(dry, wrong, error):
    with pytest.raises(error), OpCounter(dry_run=dry):
        wrong(torch.ones(2, 3, 3))


LARGE = 5000
"""Elements of tensors that are not computed with."""


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x, i: torch.ops.aten.embedding_backward(x, i.float(), LARGE, -1, False, False), RuntimeError),
        (lambda x, i: x.index_select(0, i.short()), RuntimeError),
        (lambda x, i: x.clone().index_add_(0, i.float(), x), RuntimeError),
        (lambda x, i: x.index_fill(0, i.int(), 0), IndexError),
        (lambda x, i: x[i.short()], IndexError),
        (lambda x, i: x.index_put((i.float(),), x), IndexError),
        (lambda x, i: functional.nll_loss(x, i.int()), RuntimeError),
        (lambda x, i: functional.conv1d(x.view(1, 2, -1), torch.ones(2, 2, 3).double()), RuntimeError),
        (lambda x, i: functional.layer_norm(x, (2,), torch.ones(2).double()), RuntimeError),
        (lambda x, i: functional.batch_norm(x, torch.zeros(2).double(), torch.ones(2)), RuntimeError),
        (lambda x, i: torch.mv(x, torch.randn(2).double()), RuntimeError),
        (lambda x, i: torch.cdist(x[:99], x[:99].double()), RuntimeError),
        (
            lambda x, i: functional.embedding_bag(i[None], x, None, mode="sum", per_sample_weights=i[None].half()),
            RuntimeError,
        ),
        (lambda x, i: i.softmax(0), RuntimeError),
        (lambda x, i: i.std(), RuntimeError),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_dtypes_that_a_kernel_refuses_are_refused(dry, wrong, error):
    with pytest.raises(error) as raised, OpCounter(dry_run=dry):
        wrong(torch.randn(LARGE, 2), torch.arange(LARGE))
    assert not isinstance(raised.value, DryRunError)


@pytest.mark.parametrize(
    "right",
    [
        lambda x, i: x.index_select(0, i.int()),
        lambda x, i: x[i.int()],
        lambda x, i: functional.nll_loss(x, i % 2),
        lambda x, i: functional.layer_norm(x.bfloat16(), (2,), torch.ones(2), torch.ones(2)),
        lambda x, i: functional.group_norm(x.bfloat16(), 2, torch.ones(2), torch.ones(2)),
        lambda x, i: functional.batch_norm(x.bfloat16(), torch.zeros(2), torch.ones(2), training=True),
        lambda x, i: functional.batch_norm(x.bfloat16(), None, None, torch.ones(2), torch.ones(2), training=True),
        lambda x, i: functional.conv1d(x.view(1, 2, -1), torch.ones(2, 2, 3), torch.ones(2)),
    ],
)
def test_dtypes_that_a_kernel_takes_are_taken(right):
    assert rows(lambda: right(torch.randn(LARGE, 2), torch.arange(LARGE)), dry=True) == rows(
        lambda: right(torch.randn(LARGE, 2), torch.arange(LARGE)), dry=False
    )


@pytest.mark.filterwarnings("ignore:In CPU autocast")  # PyTorch 2.1 knows one dtype
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_of_less_precision_runs_where_the_processor_has_a_kernel(kind):
    def run(dtype, grad, *, dry):
        model = kind(4, 4)
        try:
            with OpCounter(dry_run=dry) as c, torch.autocast("cpu", dtype), torch.set_grad_enabled(grad):
                model(torch.randn(3, 2, 4))
        except RuntimeError as error:
            return type(error), str(error)
        return c.macs

    for grad in (False, True, False):
        for dtype in (torch.bfloat16, torch.float16):
            assert run(dtype, grad, dry=True) == run(dtype, grad, dry=False)


@pytest.mark.parametrize("right", [lambda x: x.softmax(-3), lambda x: x.sort(2), lambda x: x[0, 0, 0].softmax(0)])
def test_dimensions_that_are_there_are_taken(right):
    assert rows(lambda: right(torch.ones(2, 3, 3)), dry=True) == rows(lambda: right(torch.ones(2, 3, 3)), dry=False)


@pytest.mark.parametrize("caught", [False, True])
def test_a_refused_dry_run_keeps_nothing_alive(caught):
    def refused(model):
        with OpCounter(model, dry_run=True) as c:
            loss = model(torch.randn(2, 3, requires_grad=True)).sum()
            alive.append(weakref.ref(c))
            alive.append(weakref.ref(model))
            try:
                int(loss)
            except DryRunError:
                if not caught:
                    raise

    alive = []
    with contextlib.suppress(DryRunError):
        refused(nn.Linear(3, 3))
    gc.collect()
    gc.collect()  # the first frees graphs, and these what the second finds
    assert [reference() for reference in alive] == [None, None]


def _by_parts(known, unknown):
    for part, row in zip(known.unbind(0), unknown.unbind(0), strict=True):
        part.add_(row)


def _recurrent(_known, unknown):
    pack = nn.utils.rnn.pack_padded_sequence(unknown[None], torch.tensor([3]), batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(pack, batch_first=True)[0]


@pytest.mark.parametrize(
    "write",
    [
        lambda known, unknown: known[:2].copy_(unknown[:2]),
        lambda known, unknown: known.view(15).copy_(unknown.view(15)),
        lambda known, unknown: known[1].narrow(0, 0, 2).copy_(unknown[1, :2]),
        lambda known, unknown: known.as_strided((5,), (1,)).copy_(unknown[0]),
        lambda known, unknown: known.t().copy_(unknown.t()),
        lambda known, unknown: known.detach().add_(unknown),
        lambda known, unknown: torch.mul(unknown, 2, out=known.view(3, 5)),
        _by_parts,
        _recurrent,
    ],
)
@pytest.mark.parametrize("make", [torch.zeros, lambda *size: torch.full(size, 0.5)])
def test_what_is_written_to_a_view_of_known_values_makes_them_unknown(make, write):
    def run():
        known = make(3, 5)
        written = write(known, torch.randn(3, 5))
        return bool((written if write is _recurrent else known).sum() > 0)

    with pytest.raises(DryRunError), OpCounter(dry_run=True):
        run()


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"device": "meta"}, {"dtype": torch.float64}])
@pytest.mark.parametrize("kind", ["expanded", "transposed", "every second"])
def test_copies_have_the_strides_that_kernels_give_them(kind: str, options: dict[str, object]) -> None:
    strides = []
    for dry in (False, True):
        with OpCounter(dry_run=dry):
            x = torch.randn(4, 6)
            x = {"expanded": x[:1, :1].expand(4, 3), "transposed": x.t(), "every second": x[:, ::2]}[kind]
            strides.append(torch.ops.aten._to_copy(x, **options).stride())
    assert strides[0] == strides[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x * 0.5, lambda x: x + 1, lambda x: 1 - x, lambda x: x / 3, lambda x: x - 2, lambda x: x > 0,
        lambda x: torch.add(x, 1, alpha=2), lambda x: x + torch.tensor(1.0), lambda x: x.mul_(2), lambda x: x * x,
        lambda x: x * torch.ones(4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("strides", [(4, 4, 1), (8, 4, 1), (4, 4, 7), (1, 9, 2)])
def test_arithmetic_has_the_strides_that_kernels_give_it(strides: tuple[int, ...], make: Any) -> None:
    found = []
    for dry in (False, True):
        with OpCounter(dry_run=dry):
            found.append(make(torch.randn(99).as_strided((1, 2, 4), strides)).stride())
    assert found[0] == found[1]


def test_a_layer_that_follows_a_scaled_recurrent_one_runs_the_same_operators() -> None:
    model, weight = nn.LSTM(4, 4, batch_first=True), nn.Parameter(torch.randn(4, 4))
    found = []
    for dry in (False, True):
        with torch.no_grad(), OpCounter(model, dry_run=dry) as c:
            (model(torch.randn(1, 2, 4))[0] * 0.5) @ weight.detach()
        found.append({name: total.macs for name, total in c.by_operator().items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("make", [torch.complex, torch.polar])
def test_complex_numbers_are_made_of_the_dtypes_of_a_real_run(make: Any, dtype: torch.dtype) -> None:
    found = []
    for dry in (False, True):
        with OpCounter(dry_run=dry):
            x = torch.ones(3).to(dtype)
            try:
                found.append(make(x, x).dtype)
            except (RuntimeError, NotImplementedError) as error:
                found.append(type(error))
    assert found[0] == found[1]
