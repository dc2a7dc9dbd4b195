"""Binding of formulas to overloads: a formula is given the arguments that it names.

A formula of opcount's own without a ``/`` in its signature names what it needs in the words of the operator's schema,
and ``out`` for what the call returned: ``def scaled_mm(out, self, bias)``. Where an argument stands, and what it
defaults to, is read from the schema of each overload, once. A formula with a ``/`` takes ``(out, *args, **kwargs)`` as
the call has them, as a user's formula does: so do those whose arguments have other names in other versions.
"""

from __future__ import annotations

import inspect
from functools import cache, update_wrapper
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from opcount._torch.dispatch import schema_of
from opcount.errors import FormulaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opcount._torch.dispatch import OpOverload
    from opcount.registry import Formula

_OUT = "out"
_RESULT = "result"
"""Name for what the call returned, where the operator has an argument called ``out``."""


def bind(formula: Formula, func: OpOverload) -> Formula:
    """Return a formula that takes ``(out, *args, **kwargs)`` of one overload; a user's formula does so already."""
    if formula.from_user:
        return formula
    when = None if formula.when is None else bound(formula.when, func)
    return formula._replace(price=bound(formula.price, func), when=when)


def named(function: Callable[..., Any]) -> dict[str, bool] | None:
    """Return the names of parameters, and whether each has a default; None: the function takes positions."""
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
        return None
    return {p.name: p.default is not p.empty for p in parameters}


@cache
def bound(function: Callable[..., Any], func: OpOverload) -> Callable[..., Any]:
    """Return a function with the signature of an overload, which passes a formula the arguments that it names."""
    names = named(function)
    if names is None:
        return function
    schema = {argument.name: argument for argument in schema_of(func).arguments}
    returned = _RESULT if _RESULT in names else _OUT
    missing = [name for name, optional in names.items() if name not in schema and name != returned and not optional]
    if missing:
        return _refusing(func, missing)
    signature, scope = ["_out", "/"], {"_function": function}
    for i, argument in enumerate(schema.values()):
        if argument.kwarg_only and "*" not in signature:
            signature.append("*")
        signature.append(_spelled(argument.name))
        if argument.has_default_value():
            signature[-1] += f"=_default_{i}"
            scope[f"_default_{i}"] = argument.default_value
    passed = {n: "_out" if n == returned else _spelled(n) for n in names if n == returned or n in schema}
    # What a data class is made by, too: there is no faster way to pass a part of the arguments on.
    made = eval(f"lambda {', '.join(signature)}: _function({_listed(passed, names)})", scope)  # noqa: S307
    return update_wrapper(made, function)


@cache
def packed(function: Callable[..., Any], func: OpOverload) -> Callable[..., Any]:
    """Return a function of ``(out, args, kwargs)``, which passes arguments on as that of `bound` does.

    From a call that has all of them by position it takes those that are named, which takes less time.
    """
    names, whole = named(function), bound(function, func)
    if names is None:
        return lambda out, args, kwargs: whole(out, *args, **kwargs or {})
    schema = {argument.name: (i, argument) for i, argument in enumerate(schema_of(func).arguments)}
    returned = _RESULT if _RESULT in names else _OUT
    scope, passed, least = {"_function": function, "_whole": whole}, {}, 0
    for name in names:
        i, argument = schema.get(name, (0, None))
        if name == returned:
            passed[name] = "_out"
        elif argument is not None and argument.kwarg_only:
            passed[name] = f"_default_{i}"
            scope[f"_default_{i}"] = argument.default_value
        elif argument is not None:
            passed[name] = f"_args[{i}]"
            least = max(least, i + 1)
    made = eval(  # noqa: S307
        f"lambda _out, _args, _kwargs: _whole(_out, *_args, **_kwargs or {{}}) if _kwargs or len(_args) < {least} "
        f"else _function({_listed(passed, names)})",
        scope,
    )
    return update_wrapper(made, whole)


def _listed(passed: dict[str, str], names: dict[str, bool]) -> str:
    """Return arguments of a call as text: by position, which is faster, where all are there."""
    in_order = passed.keys() == names.keys()
    return ", ".join(passed[name] if in_order else f"{name}={passed[name]}" for name in names if name in passed)


def _spelled(name: str) -> str:
    return f"{name}_" if iskeyword(name) else name


def _refusing(func: OpOverload, missing: list[str]) -> Callable[..., Any]:
    def refuse(_out: Any, /, *_: Any, **__: Any) -> Any:
        raise FormulaError(
            f"formula: expected {func} to have an argument {' and '.join(missing)}, got {schema_of(func)}. "
            f"Register a formula of your own for this operator."
        )

    return refuse
