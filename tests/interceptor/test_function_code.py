"""A function that gets other code stays the same object, with its parameters, defaults and free variables."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from opcount import OpCounter
from opcount.interceptor.function_code import code_that_calls, python_function, twin_of
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable


def plain(a: object, b: object = 2) -> object:
    return a, b


def by_position(a: object, /, b: object, *rest: object) -> object:
    return a, b, rest


def by_name(*, a: object, b: object = 2, **rest: object) -> object:
    return a, b, rest


def everything(a: object, /, b: object, *rest: object, c: object = 3, **more: object) -> object:
    return a, b, rest, c, more


def closing(value: object) -> Callable[..., object]:
    def closed(a: object, *, b: object = 2) -> object:
        return value, a, b

    return closed


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (plain, (1,), {}),
    (plain, (), {"b": 1, "a": 3}),
    (by_position, (1, 2, 3, 4), {}),
    (by_position, (1,), {"b": 2}),
    (by_name, (), {"a": 1, "z": 0}),
    (everything, (1, 2, 3), {"c": 4, "d": 5}),
    (closing("free"), (1,), {}),
    (lambda *args, **kwargs: (args, kwargs), (1, 2), {"a": 3}),
]


def around(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: ("changed", original(*args, **kwargs))


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_a_function_with_other_code_is_called_as_before(function: Any, args: Any, kwargs: Any) -> None:
    before, signature, out = function.__code__, inspect.signature(function), function(*args, **kwargs)
    function.__code__ = code_that_calls(around(twin_of(function)), function)
    try:
        assert function(*args, **kwargs) == ("changed", out)
        assert inspect.signature(function) == signature
        assert inspect.getsource(function) == inspect.getsource(before)
    finally:
        function.__code__ = before


def test_a_debugger_can_look_at_all_variables_of_a_function_with_other_code() -> None:
    seen: list[dict[str, Any]] = []
    function: Any = closing("free")
    function.__code__ = code_that_calls(around(twin_of(function)), function)

    def look(frame: Any, _event: str, _arg: object) -> Any:
        if frame.f_code is function.__code__:
            seen.append(dict(frame.f_locals))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        function(1)
    finally:
        sys.settrace(before)
    assert {"value": "free", "a": 1, "b": 2}.items() <= seen[0].items()


class Base:
    def name(self) -> str:
        return "base"


class Derived(Base):
    @classmethod
    def make(cls, *_args: object) -> type:
        return cls

    @staticmethod
    def double(value: int) -> int:
        return 2 * value

    def name(self) -> str:
        return f"derived from {super().name()}"

    index = property(len)


def test_methods_of_each_kind_are_changed_for_as_long_as_anybody_uses_the_patches() -> None:
    held, attributes = Derived.double, dict(vars(Derived))
    patches = Patches({}, around={(Derived, name): around for name in ("make", "double", "name")})

    def outs() -> list[Any]:
        return [Derived.make(1), Derived.double(2), Derived().name(), held(3)]

    before = outs()
    with Undo() as outer:
        patches.use(outer)
        with Undo() as inner:
            patches.use(inner)
        assert outs() == [("changed", out) for out in before]
        assert all(vars(Derived)[name] is value for name, value in attributes.items())
    assert outs() == before


def test_what_is_no_function_in_python_is_replaced() -> None:
    class Odd:
        __len__ = list.__len__
        size = property(lambda _: 3)

    before = dict(vars(Odd))
    patches = Patches({}, around={(Odd, "size"): lambda value: (value,), (Odd, "__len__"): around})
    with Undo() as undo:
        patches.use(undo)
        patches.use(undo)
        assert vars(Odd)["size"] == (before["size"],)
    assert all(vars(Odd)[name] is value for name, value in before.items())
    assert python_function(vars(Odd)["size"]) is None


def test_the_code_that_a_program_gives_to_a_function_in_a_block_stays() -> None:
    def function() -> str:
        return "before"

    def other() -> str:
        return "the program's"

    class Owner:
        method = function

    patches = Patches({}, around={(Owner, "method"): around})
    with Undo() as undo:
        patches.use(undo)
        assert function() == ("changed", "before")
        function.__code__ = other.__code__
    assert function() == "the program's"
    with Undo() as undo:
        patches.use(undo)
        assert function() == ("changed", "the program's")
    assert function() == "the program's"


def test_a_dry_run_changes_no_attribute_of_the_class_of_modules() -> None:
    before = dict(vars(nn.Module))
    with OpCounter(dry_run=True):
        inside = dict(vars(nn.Module))
    assert all(inside[name] is value for name, value in before.items())
    assert inside.keys() == before.keys()


def test_a_method_of_modules_that_a_program_holds_is_guarded_in_a_dry_run() -> None:
    assign, register = nn.Module.__setattr__, nn.Module.register_buffer
    model = nn.Linear(2, 2)
    weight = model.weight
    with OpCounter(dry_run=True):
        assign(model, "weight", nn.Parameter(weight * 2))
        register(model, "scale", weight * 2)
        assert model.weight is not weight
    assert model.weight is weight
    assert list(vars(model)["_buffers"]) == []
