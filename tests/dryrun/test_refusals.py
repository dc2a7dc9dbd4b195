"""Refusals name the operator, the module, the program's line and a remedy."""

from __future__ import annotations

import io
import linecache
import pickle
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts
from tests.features import VERSION, WHOLE, custom_op, require

if TYPE_CHECKING:
    from collections.abc import Callable


CAN_BE_LENIENT = "strict" in signature(torch.export.export).parameters
"""False where every export is strict."""

REFUSED: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x.sum() > 0),
    "numpy": lambda x: x.numpy(),
    "array": lambda x: x.__array__(),
    "format": lambda x: f"{x.mean():.2f}",
    "data_ptr": lambda x: x.data_ptr(),
    "pickle": pickle.dumps,
    "save": lambda x: torch.save(x, io.BytesIO()),
    "dlpack": lambda x: x.__dlpack__(),
    "to_sparse": lambda x: x.to_sparse() @ x.t(),
    "strided nested": lambda x: torch.nested.nested_tensor([x, x]) + 1,
    "nonzero": torch.nonzero,
    "mask": lambda x: x[x > 0],
    "shape of an outer tensor": lambda _: OUTER.unsqueeze_(0),
}

if VERSION <= WHOLE:
    REFUSED["mkldnn"] = lambda x: x.to_mkldnn()

OUTER = torch.ones(3)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_values_is_refused(name: str) -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(DryRunError, match=r"dry_run=False") as caught, OpCounter(model, dry_run=True):
        REFUSED[name](model(torch.randn(3, 4)).detach())
    line = linecache.getline(__file__, caught.value.line).lstrip()
    assert line.startswith((f'"{name}": lambda', "REFUSED["))
    assert OUTER.shape == (3,)


def test_a_refusal_says_where_it_arose() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.sum().item()

    model = nn.Sequential(nn.Linear(4, 4), Asks())
    message = r"_local_scalar_dense.* in 1 .*test_refusals\.py:\d+"
    with pytest.raises(DryRunError, match=message) as caught, OpCounter(model, dry_run=True):
        model(torch.randn(3, 4))
    error = caught.value
    assert (error.operator, error.module) == ("aten._local_scalar_dense.default", "1")
    assert error.file == __file__
    assert error.line == Asks.forward.__code__.co_firstlineno + 1


@pytest.mark.parametrize("ask", [lambda x: x.item(), lambda x: x.numpy(), lambda x: x.tolist(), lambda x: f"{x:.1f}"])
def test_a_refusal_that_the_program_swallows_is_raised_on_leaving(ask: Callable[[Tensor], object]) -> None:
    with pytest.raises(DryRunError, match="caught inside"), OpCounter(dry_run=True), suppress(RuntimeError):
        ask(torch.randn(()))


def test_a_refusal_that_the_program_raises_as_another_error_is_raised_as_itself() -> None:
    def library() -> None:
        try:
            range(int(torch.randn(())))
        except RuntimeError:
            raise MemoryError("try a smaller patch") from None

    with pytest.raises(DryRunError) as caught, OpCounter(dry_run=True):
        library()
    assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (lambda: nn.Linear(4, 4)(torch.randn(2, 5)), RuntimeError),
        (lambda: torch.randn(3)[5], IndexError),
        (lambda: torch.randn(3).view(2, 2), RuntimeError),
        (lambda: {}["missing"], KeyError),
        (lambda: torch.tensor([1, 2])[torch.tensor(7)], IndexError),
    ],
)
def test_an_error_of_the_programs_own_stays_what_it_is(program: Callable[[], object], kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, OpCounter(dry_run=True):
        program()
    assert not isinstance(caught.value, DryRunError)


def test_an_encoder_that_would_pack_by_its_padding_mask_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 1).eval(), torch.randn(2, 5, 8)
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
    with torch.no_grad(), pytest.raises(DryRunError, match="src_key_padding_mask"), OpCounter(model, dry_run=True):
        model(x, src_key_padding_mask=mask)
    assert not model._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:where received a uint8 condition")
def test_a_mask_of_bytes_chooses_as_in_a_real_run() -> None:
    mask = torch.ones(70, 70, dtype=torch.uint8)
    assert_same_counts(
        lambda: nn.Linear(70, 70), lambda m: torch.where(mask, m(torch.randn(70, 70)), torch.ones(())) * 2
    )


@custom_op("refusals::without_shapes", mutates_args=())
def without_shapes(x: torch.Tensor) -> torch.Tensor:
    return x @ x


def test_an_operator_of_a_program_without_a_shape_function_is_refused_by_its_name():
    with pytest.raises(DryRunError, match=r"refusals\.without_shapes\.default"), OpCounter(dry_run=True):
        without_shapes(torch.ones(3, 3))


def test_a_trace_of_operators_that_are_answered_unseen_is_refused() -> None:
    """Small values are computed where no trace sees it."""
    layer = nn.Linear(4, 4)
    with pytest.raises(DryRunError, match="make_fx"), OpCounter(layer, dry_run=True):
        make_fx(layer)(torch.randn(3, 4))


def test_an_exported_program_is_traced_with_fake_tensors_of_its_own() -> None:
    require("a trace for an export that is not strict under a fake tensor mode")
    layer, x = nn.Linear(4, 4), torch.randn(3, 4)
    with OpCounter(layer, dry_run=True) as c:
        torch.export.export(layer, (x,), strict=False).module()(x)
    assert c.macs == 2 * 3 * 4 * 4  # in the export, and in its program


def test_a_strict_export_is_refused() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(3, 4)
    with pytest.raises(DryRunError, match="strict mode"), OpCounter(layer, dry_run=True):
        torch.export.export(layer, (x,), **({"strict": True} if CAN_BE_LENIENT else {}))
