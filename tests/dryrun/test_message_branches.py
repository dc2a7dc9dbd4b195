"""Conditions that only show a message need no value."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger(__name__)
LINEAR = nn.Linear(4, 4)


def logs(x: Tensor) -> None:
    if (x > 9).any():
        LOG.warning("large: %s", x)


def warns_in_parts(x: Tensor) -> None:
    pad = 0
    if pad is not None and not (x.abs() < 9).all().item():
        text = f"hides {pad}"
        if pad == 0:
            text += f", as {len(x)} others do"
        warnings.warn(text, stacklevel=1)


def asks_whether_it_contains(x: Tensor) -> None:
    if 7 in x[:, 0] and LINEAR is not None:
        LOG.warning("has a seven")


def asks_whether_it_does_not_contain(x: Tensor) -> None:
    if 7 not in x:
        LOG.info("has no seven")


def asks_pytorch(x: Tensor) -> None:
    torch._check_tensor_all(x.isfinite())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="instructions have no columns")
@pytest.mark.parametrize(
    "condition",
    [logs, warns_in_parts, asks_whether_it_contains, asks_whether_it_does_not_contain, asks_pytorch],
)
def test_a_condition_on_a_message_is_passed_by(condition: Callable[[Tensor], None]) -> None:
    with OpCounter(dry_run=True) as c:
        condition(LINEAR(torch.randn(2, 4)))
    assert c.macs == 2 * 4 * 4


def computes(x: Tensor) -> None:
    if (x > 9).any():
        LOG.warning("mean %s", x.mean())


def goes_on_with_it(x: Tensor) -> None:
    text = ""
    if (x > 9).any():
        text = "large"
    LINEAR(x[: len(text)])


def has_another_way(x: Tensor) -> None:
    if (x > 9).any():
        LOG.warning("large")
    else:
        LINEAR(x)


def compares_numbers(x: Tensor) -> None:
    if x.sum().item() > 9:
        LOG.warning("large")


@pytest.mark.parametrize("condition", [computes, goes_on_with_it, has_another_way, compares_numbers])
def test_a_condition_on_more_than_a_message_is_refused(condition: Callable[[Tensor], None]) -> None:
    with pytest.raises(DryRunError, match="_local_scalar_dense"), OpCounter(dry_run=True):
        condition(LINEAR(torch.randn(2, 4)))
