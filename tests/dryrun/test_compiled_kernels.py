"""Kernels of mmcv that fill memory which their caller has made, in a dry run."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import Function

from opcount import OpCounter
from opcount.errors import DryRunError, UncountedOperatorWarning
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from torch import Tensor

EXTENSION = ModuleType("mmcv._ext")


def fill(tensor: Tensor, number: float) -> None:
    assert tensor.data_ptr(), "its data is not allocated yet"
    np.copyto(tensor.numpy(), number)


def deform_conv_forward(_x: Tensor, _weight: Tensor, _offset: Tensor, out: Tensor) -> None:
    fill(out, 1.0)


def deform_conv_backward_input(_x: Tensor, _offset: Tensor, _grad: Tensor, to_x: Tensor, to_offset: Tensor) -> None:
    for made in (to_x, to_offset):
        fill(made, 2.0)


def deform_conv_backward_parameters(_x: Tensor, _offset: Tensor, _grad: Tensor, to_weight: Tensor) -> None:
    fill(to_weight, 3.0)


KERNELS = (deform_conv_forward, deform_conv_backward_input, deform_conv_backward_parameters)


class DeformConv2dFunction(Function):
    """As mmcv has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, weight)
        out = x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])
        vars(EXTENSION)["deform_conv_forward"](x, weight, offset, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, offset, weight = ctx.saved_tensors
        made = [torch.zeros_like(each) for each in (x, offset, weight)]
        vars(EXTENSION)["deform_conv_backward_input"](x, offset, grad, *made[:2])
        vars(EXTENSION)["deform_conv_backward_parameters"](x, offset, grad, made[2])
        return tuple(made)


class Other(DeformConv2dFunction):
    """Has no formula."""


class Deformable(nn.Module):
    """A deformable convolution of 3 x 3."""

    def __init__(self, function: Any = DeformConv2dFunction) -> None:
        super().__init__()
        self.function = function
        self.offset = nn.Conv2d(4, 18, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(5, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Sample at places that a convolution finds."""
        made: Tensor = self.function.apply(x, self.offset(x), self.weight)
        return made


@pytest.fixture(autouse=True)
def _extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXTENSION.__name__, EXTENSION)
    for kernel in KERNELS:
        monkeypatch.setattr(EXTENSION, kernel.__name__, kernel, raising=False)


def test_a_step_counts_as_in_a_real_run() -> None:
    assert_same_counts(Deformable, lambda model: model(torch.randn(2, 4, 6, 6)).sum().backward())


def test_what_a_kernel_fills_is_not_known() -> None:
    model, x = Deformable(), torch.randn(1, 4, 1, 1)

    def program() -> None:
        model(x).sum().backward()
        range(int(model.weight.grad.sum()))  # type: ignore[union-attr]

    with pytest.raises(DryRunError, match="needs the value"), OpCounter(dry_run=True):
        program()


def test_offsets_that_a_kernel_would_refuse_are_not_counted() -> None:
    model = Deformable()
    model.offset = nn.Conv2d(4, 18, 3)
    with pytest.raises(DryRunError, match="data_ptr in Deformable needs"), OpCounter(dry_run=True):
        model(torch.randn(2, 4, 6, 6))


def test_a_function_without_a_formula_is_named_as_in_a_real_run() -> None:
    named = []
    for dry in (False, True):
        model = Deformable(Other)
        with pytest.warns(UncountedOperatorWarning), OpCounter(dry_run=dry) as c:
            model(torch.randn(2, 4, 6, 6)).sum().backward()
        named.append(set(c.profile.coverage.uncounted))
    assert named[0] == named[1] == {"autograd.Other", "autograd.OtherBackward"}


def test_the_kernels_are_as_before_afterwards_and_real_tensors_get_them() -> None:
    filled = torch.zeros(1, 5, 2, 2)
    with pytest.raises(ZeroDivisionError), OpCounter(dry_run=True):
        raise ZeroDivisionError
    assert [vars(EXTENSION)[kernel.__name__] for kernel in KERNELS] == [*KERNELS]
    with OpCounter():
        DeformConv2dFunction.apply(torch.ones(1, 4, 2, 2), torch.ones(1, 18, 2, 2), torch.ones(5, 4, 3, 3))
        EXTENSION.deform_conv_forward(None, None, None, filled)
    assert filled.sum() == 20
