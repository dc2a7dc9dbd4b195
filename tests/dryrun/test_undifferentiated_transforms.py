"""Higher-order operators in a transform of ``torch.func``: only compiled code has rules for some of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opcount import OpCounter
from opcount.errors import DryRunError


def _loop(x: Tensor) -> Tensor:
    values = (torch.tensor(0), x.detach().clone())
    with torch.no_grad():
        made = torch._higher_order_ops.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y.tanh()), values)[1]
    return (x + made).sum()


def test_a_loop_in_a_transform_is_refused_by_name() -> None:
    with pytest.raises(DryRunError, match=r"while_loop .*transformed"), OpCounter(dry_run=True):
        torch.func.grad(_loop)(torch.ones(3))
