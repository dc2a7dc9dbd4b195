"""Operators that are declared free."""

from __future__ import annotations

import pytest
import torch

from opcount.cost import Cost
from opcount.formulas.rules import rule_for
from tests.features import VERSION

aten = torch.ops.aten


@pytest.mark.parametrize(
    "func",
    [
        aten.view.default,
        aten.as_strided.default,
        aten.unsqueeze_.default,
        aten.split.Tensor,
        aten.permute_copy.default,
        aten.permute_copy.out,
        aten.clone.default,
        aten._to_copy.default,
        aten.copy_.default,
        aten.zeros_like.default,
        aten.normal_.default,
        aten.index.Tensor,
        aten.cat.out,
        *([torch.ops._c10d_functional.wait_tensor.default] if VERSION >= (2, 2) else []),
        torch.ops.prims.convert_element_type.default,
        torch.ops.prim.device.default,
    ],
    ids=str,
)
def test_moving_making_and_looking_at_data_is_free(func):
    assert rule_for(func).family == "free"
    assert rule_for(func).price(None) == Cost()


def test_waiting_for_a_collective_of_the_older_library_is_free():
    import torch.distributed._functional_collectives  # noqa: PLC0415  (makes the library)

    assert rule_for(torch.ops.c10d_functional.wait_tensor.default).family == "free"
