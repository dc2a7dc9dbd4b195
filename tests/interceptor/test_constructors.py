"""Tensor subclasses are made inside a block as they are outside, and what is computed with them is counted."""

from __future__ import annotations

import copy
import pickle
import sys
from contextlib import ExitStack
from threading import Thread

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter


class Plain(torch.Tensor):
    pass


class Tagged(torch.Tensor):
    """As many libraries write it."""

    def __new__(cls, data, tag=None):
        made = super().__new__(cls, data)
        made.tag = tag
        return made


class Explicit(torch.Tensor):
    def __new__(cls, data, tag=None):
        made = torch.Tensor.__new__(cls, data)
        made.tag = tag
        return made

    def __init__(self, data, tag=None):
        self.initialised = True


class Viewed(torch.Tensor):
    """As MONAI's MetaTensor."""

    def __new__(cls, data, tag=None):
        return torch.as_tensor(data).as_subclass(cls)

    def __init__(self, data, tag=None):
        self.tag = tag


class Wrapped(nn.Parameter):
    def __new__(cls, data, tag=None):
        made = torch.Tensor._make_subclass(cls, data, True)
        made.tag = tag
        return made


ROWS = torch.arange(12.0).reshape(3, 4)
WEIGHT = torch.ones(5, 4)

MADE = {
    "of a tensor": lambda: Plain(ROWS),
    "of a list": lambda: Plain([[1.0, 2.0, 3.0, 4.0]]),
    "of sizes": lambda: Plain(3, 4).fill_(1.0),
    "of a size": lambda: Plain(torch.Size([3, 4])).fill_(1.0),
    "of nothing": Plain,
    "of a storage": lambda: Plain(ROWS.untyped_storage()),
    "of an array": lambda: Plain(ROWS.numpy()),
    "of one of its own": lambda: Plain(Plain(ROWS)),
    "of one with gradients": lambda: Plain(ROWS.clone().requires_grad_()),
    "like another": lambda: Plain(ROWS).new([1.0, 2.0]),
    "with a tag": lambda: Tagged(ROWS, 3),
    "with an explicit base": lambda: Explicit(ROWS, 3),
    "as a view": lambda: Viewed(ROWS, 3),
    "as a parameter": lambda: nn.Parameter(Plain(ROWS)),
    "as a parameter of its own": lambda: Wrapped(ROWS.clone(), 3),
    "as a tensor": lambda: torch.Tensor(ROWS),
    "as a typed tensor": lambda: torch.FloatTensor([[1.0, 2.0]]),
    "copied": lambda: copy.copy(Plain(ROWS)),
    "pickled": lambda: pickle.loads(pickle.dumps(Plain(ROWS))),  # noqa: S301
    "by a lazy module": lambda: nn.LazyLinear(2)(ROWS).detach().fill_(1.0),
}


def describe(made):
    return type(made), made.shape, made.dtype, made.requires_grad, made.is_leaf, vars(made).get("tag"), made.tolist()


@pytest.mark.parametrize("counters", [1, 2])
@pytest.mark.parametrize("name", MADE)
def test_a_tensor_is_made_as_without_a_counter(name, counters):
    expected = describe(MADE[name]())
    with ExitStack() as stack:
        for _ in range(counters):
            stack.enter_context(OpCounter(strict=True))
        assert describe(MADE[name]()) == expected


@pytest.mark.parametrize("kind", [Plain, Tagged, Explicit, Viewed, Wrapped])
def test_what_is_computed_with_it_is_counted(kind):
    with OpCounter(strict=True) as outer, OpCounter(strict=True) as inner:
        nn.functional.linear(kind(ROWS), WEIGHT)
    assert outer.macs == inner.macs == 3 * 4 * 5


def test_gradients_pass_through_it():
    x = ROWS.clone().requires_grad_()
    with OpCounter() as counter:
        nn.functional.linear(Plain(x), WEIGHT).sum().backward()
    assert counter.macs == 2 * 3 * 4 * 5
    assert torch.equal(x.grad, torch.full((3, 4), 5.0))


def test_wrong_arguments_raise_as_without_a_counter():
    for arguments in [("a",), (ROWS, 3), ({},)]:
        with pytest.raises((TypeError, RuntimeError)) as bare:
            Plain(*arguments)
        with OpCounter(), pytest.raises(bare.type) as counted:
            Plain(*arguments)
        assert str(counted.value) == str(bare.value)


def test_another_mode_has_its_say():
    class Other(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with OpCounter() as outer, Other(), OpCounter() as inner:
        with pytest.raises(RuntimeError, match="already associated to a python object"):  # PyTorch's own
            Plain(ROWS)
        nn.functional.linear(ROWS, WEIGHT)
    assert outer.macs == inner.macs == 3 * 4 * 5


def test_a_subclass_may_be_made_on_another_thread_and_defined_inside():
    made = []
    with OpCounter() as counter:

        class Inner(torch.Tensor):
            pass

        thread = Thread(target=lambda: made.append(Inner(ROWS)))
        thread.start()
        thread.join()
        nn.functional.linear(Inner(ROWS), WEIGHT)
    made.append(Inner([1.0]))
    assert [type(tensor) for tensor in made] == [Inner, Inner]
    assert counter.macs == 3 * 4 * 5


def test_the_constructor_is_pytorchs_own_again_after_the_last_block():
    before = torch.Tensor.__new__
    outer, inner = OpCounter(), OpCounter()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    Plain(ROWS)
    inner.__exit__(None, None, None)
    assert torch.Tensor.__new__ is before
    assert "__new__" not in vars(torch.Tensor)
    with pytest.raises(KeyError), OpCounter():
        raise KeyError
    assert "__new__" not in vars(torch.Tensor)


def test_pytorchs_own_tables_read_the_constructor_as_without_a_counter():
    before = torch.Tensor.__new__
    table = {"__name__": "torch._dynamo.polyfills.tensor", "torch": torch}
    with OpCounter():
        exec("found = torch.Tensor.__new__", table)  # noqa: S102
        assert sys.modules[__name__].torch.Tensor.__new__ is not before
    assert table["found"] is before


def test_what_a_program_puts_there_stays():
    def own(cls, *args, **kwargs):
        return before(cls, *args, **kwargs)

    before = torch.Tensor.__new__
    with OpCounter():
        torch.Tensor.__new__ = own
    try:
        assert torch.Tensor.__new__ is own
        with OpCounter():
            assert torch.Tensor.__new__ is own
        assert torch.Tensor.__new__ is own
    finally:
        del torch.Tensor.__new__


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 3, 4), torch.zeros(0, 5), torch.zeros(())], ids=["3-D", "empty", "scalar"]
)
def test_the_sizes_of_a_tensor_as_a_tensor_are_no_native_code(x):
    plain, of_torch = torch._shape_as_tensor(x), torch._shape_as_tensor
    with OpCounter(strict=True) as c:
        sizes = torch._shape_as_tensor(x)
        added = torch.cat([sizes, sizes]) + 1
    assert torch._shape_as_tensor is of_torch
    assert (sizes.dtype, sizes.device, sizes.tolist()) == (plain.dtype, plain.device, list(x.shape))
    assert added.shape == (2 * x.dim(),)
    assert c.profile.coverage.uncounted == {}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace`", "ignore:1 operator has no formula")
def test_a_trace_inside_a_block_keeps_sizes_that_follow_the_input():
    def function(x):
        return torch._shape_as_tensor(x)

    with OpCounter():
        traced = torch.jit.trace(function, torch.zeros(2, 3))
    assert traced(torch.zeros(5, 7)).tolist() == [5, 7]


@pytest.mark.filterwarnings("ignore:`torch.jit.script`", "ignore:1 operator has no formula")
def test_a_function_with_sizes_as_a_tensor_can_be_scripted_inside():
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch._shape_as_tensor(x)

    with OpCounter():
        scripted = torch.jit.script(function)
    assert scripted(torch.zeros(2, 3)).tolist() == [2, 3]
    assert "aten::_shape_as_tensor" in str(scripted.graph)
