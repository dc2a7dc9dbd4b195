"""Other code for a Python function that stays the same object, where its class must not be touched.

Python looks a special method that is assigned to a class up in each subclass, and forgets what it has looked up there:
`torch.nn.Module` has hundreds of them, so that to assign its ``__setattr__`` takes milliseconds, and modules run slower
afterwards. A function that gets other code costs nothing of that, and whoever holds it runs the other code, too.
"""

from __future__ import annotations

from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_REPLACEMENT = "_replacement"
"""Local variable that holds what is called; no function of PyTorch's has a parameter of that name."""


def python_function(value: Any) -> FunctionType | None:
    """Return the Python function that an attribute of a class is or wraps, or None."""
    function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    return function if type(function) is FunctionType else None


def twin_of(function: FunctionType) -> FunctionType:
    """Return a second function with the same code, which stays when the first one gets another."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__ = function.__qualname__
    return twin


def code_that_calls(replacement: Callable[..., Any], function: FunctionType) -> CodeType:
    """Return code with the parameters, name and free variables of a function that calls another one.

    Example:
        >>> def halve(number, by=2):
        ...     return number / by
        >>> halve.__code__ = code_that_calls(max, halve)
        >>> halve(5), halve(by=4, number=3)
        (5, 4)
    """
    code = function.__code__
    parameters, arguments = _signature(code)
    free = ", ".join(code.co_freevars)
    source = (
        f"def outer({free}):\n def inner({parameters}):\n  if False: {free or None}\n"
        f"  {_REPLACEMENT} = ...\n  return {_REPLACEMENT}({arguments})\n"
    )
    outer = _code_in(compile(source, code.co_filename, "exec"))
    inner = _code_in(outer)
    constants = tuple(replacement if constant is ... else constant for constant in inner.co_consts)
    names = {name: getattr(code, name) for name in ("co_name", "co_qualname") if hasattr(code, name)}
    return inner.replace(co_consts=constants, co_firstlineno=code.co_firstlineno, **names)


def _signature(code: CodeType) -> tuple[str, str]:
    """Return the parameters of a function without their defaults, and the arguments that hand them on."""
    names = iter(code.co_varnames)
    by_position = [next(names) for _ in range(code.co_argcount)]
    by_name = [next(names) for _ in range(code.co_kwonlyargcount)]
    rest = [f"*{next(names)}"] if code.co_flags & CO_VARARGS else []
    rest_by_name = [f"**{next(names)}"] if code.co_flags & CO_VARKEYWORDS else []
    bar = ["/"] if code.co_posonlyargcount else []
    star = ["*"] if by_name and not rest else []
    split = code.co_posonlyargcount
    parameters = [*by_position[:split], *bar, *by_position[split:], *(rest or star), *by_name, *rest_by_name]
    arguments = [*by_position, *rest, *(f"{name}={name}" for name in by_name), *rest_by_name]
    return ", ".join(parameters), ", ".join(arguments)


def _code_in(code: CodeType) -> CodeType:
    """Return the code of the only function that is defined in some code."""
    found: CodeType = next(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return found
