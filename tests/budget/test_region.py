"""The decorator and the context manager, on real modules."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from opcount import BudgetExceededError, flop_budget
from opcount.errors import BudgetError, UncountedOperatorWarning
from tests.features import custom_op

MODEL = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5))
ONE = torch.ones(1, 10)  # 1 x (10 x 10 + 10 x 5) = 150 MAC


@flop_budget("150 MAC")
def forward(rows=1):
    """Run the model."""
    return MODEL(torch.ones(rows, 10))


class Holder:
    @flop_budget("150 MAC")
    def method(self, rows=1):
        return MODEL(torch.ones(rows, 10))

    @staticmethod
    @flop_budget("150 MAC")
    def static(rows=1):
        return MODEL(torch.ones(rows, 10))

    @flop_budget("150 MAC")
    async def async_method(self, rows=1):
        await asyncio.sleep(0)
        return MODEL(torch.ones(rows, 10))


def test_a_function_at_its_limit_returns_what_it_returned():
    assert torch.equal(forward(), MODEL(ONE))
    assert (forward.__name__, forward.__doc__) == ("forward", "Run the model.")


@pytest.mark.parametrize("function", [forward, Holder().method, Holder.static])
def test_every_call_is_held_to_the_limit_on_its_own(function):
    function()
    function()
    with pytest.raises(BudgetExceededError, match=r": limited to 150 MAC, counted 300 MAC \(\+100.0 %\)"):
        function(rows=2)


def test_an_async_function_is_counted_until_it_returns():
    asyncio.run(Holder().async_method())
    with pytest.raises(BudgetExceededError, match=r"async_method: limited to 150 MAC, counted 300 MAC"):
        asyncio.run(Holder().async_method(rows=2))


def test_calls_in_several_threads_do_not_add_up():
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(forward) for _ in range(8)]:
            future.result()


def test_a_block_gives_its_counter_and_may_be_entered_again():
    region = flop_budget("150 MAC", model=MODEL)
    for _ in range(2):
        with region as c:
            MODEL(ONE)
    assert (c.macs, c.params, type(c.macs)) == (150, 165, int)  # 10 x 10 + 10 + 10 x 5 + 5


def test_blocks_nest():
    with flop_budget("300 MAC"):
        MODEL(ONE)
        with flop_budget("150 MAC", name="inner"):
            MODEL(ONE)


def test_a_block_that_raises_is_not_judged():
    def broken():
        with flop_budget("1 MAC"):
            MODEL(ONE)
            raise KeyError

    with pytest.raises(KeyError):
        broken()


def test_patterns_may_leave_out_the_class_that_begins_each_path_without_a_model():
    with flop_budget(modules={"0": "100 MAC", "Sequential.2": "50 MAC"}):
        MODEL(ONE)
    with (
        pytest.raises(BudgetExceededError, match=r"Sequential.0 limited to 99 MAC"),
        flop_budget(modules={"0": "99 MAC"}),
    ):
        MODEL(ONE)


def test_parameters_are_known_without_a_model_argument():
    with flop_budget(exact_params=165):
        MODEL(ONE)


def test_training_counts_backward_too():
    with flop_budget(exact="350 MAC", phase="training"):  # 150, weights 150, input of the second layer 50
        MODEL(ONE).sum().backward()
    with flop_budget(exact="200 MAC", phase="backward"):
        MODEL(ONE).sum().backward()


def test_an_uncounted_operator_fails_closed_with_its_name(recwarn):
    @custom_op("budgettest::odd", mutates_args=())
    def odd(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)

    with (
        pytest.raises(BudgetExceededError, match=r"1 operator without a formula.*budgettest.odd.default"),
        flop_budget("1 GMAC"),
    ):
        odd(ONE)
    with flop_budget("1 GMAC", allow_uncounted=True):
        odd(ONE)
    assert not [w for w in recwarn if issubclass(w.category, UncountedOperatorWarning)]


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_function_is_refused_with_the_remedy(function):
    with pytest.raises(BudgetError, match=f"got the generator function {function.__name__}.*around the loop"):
        flop_budget("1 MAC")(function)


def test_what_is_no_function_is_refused():
    with pytest.raises(BudgetError, match=r"Decorate the methods that compute"):
        flop_budget("1 MAC")(Holder)
    with pytest.raises(BudgetError, match=r"Write it in parentheses: @flop_budget\('4.2 GMAC'\)"):
        flop_budget(forward)


def test_neither_the_budgets_nor_the_plugin_import_torch():
    code = "import sys, opcount.pytest_plugin; from opcount import flop_budget"
    code += "; flop_budget('1 MAC', modules={'a': '1 MAC'})"
    code += "; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
