"""PyTorch's tables of functions, first made in a dry run: they hold functions, and no patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import overrides
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from opcount import OpCounter
from tests.features import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

TABLES: dict[str, Any] = {
    "functions that make tensors": _device._device_constructors,
    "functions that nothing overrides": overrides.get_ignored_functions,
    "overrides to test with": overrides.get_testing_overrides,
    "functions to override": overrides._get_overridable_functions,
    "methods of tensors": overrides._get_tensor_methods,
}


class Seen(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.functions: list[object] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def functions(table: object) -> object:
    """Return what a table holds, without the new lambdas that one of them has for each function."""
    return list(table) if isinstance(table, dict) else table


@pytest.mark.filterwarnings("ignore:'has_[a-z]+' is deprecated")  # of PyTorch 2.1's own, which lists these
@pytest.mark.parametrize("counters", [1, 2])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_first_asked_for_in_a_dry_run_is_as_without_one(name, counters):
    table = TABLES[name]
    table.cache_clear()
    expected = functions(table())
    table.cache_clear()
    outer = OpCounter(dry_run=True)
    with outer:
        with OpCounter(dry_run=True):
            table()
        if counters > 1:
            table()
    assert functions(table()) == expected


def test_a_block_on_a_device_still_holds_for_functions_that_a_dry_run_patches():
    _device._device_constructors.cache_clear()
    with OpCounter(dry_run=True), torch.device("meta"):
        if VERSION < (2, 15):  # which makes a fake one of the CPU, as for torch.empty
            assert torch.tensor([1.0]).device.type == "meta"
        out = torch.nn.Linear(1, 2)(torch.tensor([1.0]))
    assert out.shape == (2,)
    with torch.device("meta"):
        made = torch.tensor([1.0]), torch.as_tensor([1.0]), torch.asarray([1.0]), torch.empty(1)
    assert {tensor.device.type for tensor in made} == {"meta"}
    assert torch.tensor([1.0]).device.type == "cpu"


def test_a_mode_of_functions_sees_the_same_function_inside_and_after():
    found = []
    for dry in (True, False):
        with OpCounter(dry_run=dry), Seen() as seen:
            torch.tensor([1.0]).add(1)
        found.append(seen.functions)
    assert found[0][:1] == found[1][:1] == [torch.tensor]
