"""The name in a Python module that builds the model."""

from __future__ import annotations

import copy
import inspect
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from torch import nn

from opcount.errors import LoadError
from opcount.loaders.build import build, near, prepared
from opcount.loaders.cli_values import arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import TypeAlias

    from opcount.loaders.request import Request

    Maker: TypeAlias = "nn.Module | Callable[..., object]"

USUAL_NAMES = ("build_model", "get_model", "create_model", "make_model", "model")
"""Names that are preferred to all others."""

INPUTS = "inputs"
"""Name of the inputs that a file makes: never a model."""

_WIDTH = 64
_BY_KIND = {"bool": True, "str": "name", "float": 0.1}
_BY_NAME = {
    "class": 10,
    "chan|in_ch": 3,
    "depth|layer|block|head|stage": 2,
    "kernel": 3,
    "drop|rate|prob|eps|ratio": 0.1,
    "vocab": 1000,
    "im(g|age)_?size": 224,
}
"""Examples of arguments by patterns of their names."""

_SHOWN = 8
"""Names of factories in a message."""


def build_from(module: ModuleType, factory: str, source: object, request: Request) -> nn.Module:
    """Build the model that a name in a module stands for; without a name, the one that is obvious.

    Args:
        module: The module, imported.
        factory: A name in it, dots allowed; empty: one of `USUAL_NAMES`, or the only object, function or class that can
            be a model.
        source: The module's path or name, for messages.
        request: Arguments of the factory, device, dtype, mode.

    Raises:
        LoadError: There is no such name, none or more than one is obvious, it needs other arguments, or it fails.
    """
    maker = _look_up(module, factory, source) if factory else _find(module, source)
    if isinstance(maker, nn.Module):  # the module keeps it for the next who loads it
        return prepared(copy.deepcopy(maker) if request.device == "meta" else maker, request)
    given = arguments(request.use("kwargs"))
    name = getattr(maker, "__name__", repr(maker))
    if needed := [each for each in _required(maker) if each not in given]:
        raise LoadError(
            f"load: expected a factory without required arguments, got {name}({', '.join(needed)}) in "
            f"{str(source)!r}. Give them, with values of your own: "
            f"{command(f'{source}:{factory or name}', maker, given)}"
        )
    return build(f"{source}:{factory or name}", partial(maker, **given), request)


def _look_up(module: ModuleType, factory: str, source: object) -> Maker:
    found: Any = module
    for part in factory.split("."):
        if not hasattr(found, part):
            known = near(part, [name for name in dir(found) if not name.startswith("_")])
            raise LoadError(f"load: expected a name in {source}, got {factory!r}. {known or _advice(source, module)}")
        found = getattr(found, part)
    if not callable(found):
        _refuse(source, f"a function, an nn.Module class or an nn.Module, got {factory} = {found!r}", module)
    maker: Maker = found
    return maker


def _find(module: ModuleType, source: object) -> Maker:
    makers = _makers(module)
    for name in USUAL_NAMES:
        if name in makers:
            return makers[name]
    found = next((group for group in _candidates(makers) if group), {})
    if not found:
        demanding: dict[str, Maker] = {name: maker for name, maker in makers.items() if isinstance(maker, type)}
        found = next((group for group in (demanding, _imported(module)) if len(group) == 1), {})
    if len(found) != 1:
        _refuse(source, f"one obvious model, got {len(found)}", module)
    return next(iter(found.values()))


def _imported(module: ModuleType) -> dict[str, Maker]:
    """Return the module classes that a file imports from elsewhere than torch."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ != module.__name__
        and value.__module__.partition(".")[0] != "torch"
    }


def _makers(module: ModuleType) -> dict[str, Maker]:
    """Return the file's public modules, and the functions and module classes that it defines itself."""
    makers: dict[str, Maker] = {}
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "") == module.__name__
        defines = own and (inspect.isfunction(value) or (isinstance(value, type) and issubclass(value, nn.Module)))
        if not name.startswith("_") and name != INPUTS and (isinstance(value, nn.Module) or defines):
            makers[name] = value
    return makers


def _candidates(makers: dict[str, Maker]) -> list[dict[str, Maker]]:
    """Return what can build a model without arguments, the surest first.

    Objects and functions that say they return a module; then classes; then functions that say nothing.
    """
    groups: list[dict[str, Maker]] = [{}, {}, {}]
    for name, maker in makers.items():
        if isinstance(maker, nn.Module):
            groups[0][name] = maker
        elif _required(maker):
            continue
        elif isinstance(maker, type):
            groups[1][name] = maker
        elif _returns_module(maker):
            groups[0][name] = maker
        elif "return" not in maker.__annotations__ and name != "main":
            groups[2][name] = maker
    return groups


def _required(maker: Callable[..., object]) -> list[str]:
    """Return the names of the arguments that a call must give."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _returns_module(function: Callable[..., object]) -> bool:
    try:
        hint = inspect.get_annotations(function, eval_str=True).get("return")
    except Exception:  # noqa: BLE001  (a hint may be any expression, of names that exist for type checkers only)
        hint = None
    return isinstance(hint, type) and issubclass(hint, nn.Module)


def _refuse(source: object, expected: str, module: ModuleType) -> NoReturn:
    raise LoadError(f"load: expected {expected} in {str(source)!r}. {_advice(source, module)}")


def _advice(source: object, module: ModuleType) -> str:
    makers = _makers(module)
    names = sorted({name for group in _candidates(makers) for name in group})[:_SHOWN]
    if names:
        ways = ", ".join(f"{source}:{name}" for name in names)
        return f"Pass one of {ways}; it must return the model and need no arguments."
    classes = {**_imported(module), **{name: maker for name, maker in makers.items() if isinstance(maker, type)}}
    if classes:
        return "Run one of: " + "; ".join(command(f"{source}:{n}", c) for n, c in list(classes.items())[:_SHOWN])
    return "Add a function build_model(); it must return the model and need no arguments."


def command(target: str, maker: Callable[..., object], given: Mapping[str, object] | None = None) -> str:
    """Return a command line that gives a factory the arguments that it requires, each an example of its kind."""
    given = given or {}
    parameters = inspect.signature(maker).parameters if _required(maker) else {}
    examples = {name: _example(parameters[name]) for name in _required(maker) if name not in given}
    pairs = [shlex.quote(f"{name}={value}") for name, value in {**given, **examples}.items()]
    return " ".join([f"opcount count {shlex.quote(target)}", *(["--kwargs", *pairs] if pairs else [])])


def _example(parameter: inspect.Parameter) -> object:
    """Return a value that an argument may have, by its annotation and its name."""
    kind = parameter.annotation if isinstance(parameter.annotation, str) else parameter.annotation.__name__
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    return next((value for words, value in _BY_NAME.items() if re.search(words, parameter.name)), _WIDTH)
