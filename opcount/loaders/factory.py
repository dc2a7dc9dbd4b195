"""Which name in a plain Python file builds the model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from torch import nn

from opcount.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType
    from typing import TypeAlias

    Maker: TypeAlias = "nn.Module | Callable[[], object]"

USUAL_NAMES = ("build_model", "get_model", "create_model", "make_model", "model")
"""Where a model is looked for first, after the name of the file itself."""

INPUTS = "inputs"
"""The name of what a file's model is called with: never a model."""


def choose(module: ModuleType, factory: str, path: Path) -> Maker:
    """Return what builds the model: the name that was given, or else the one that is obvious.

    Args:
        module: The file, imported.
        factory: A name in it, dots allowed; empty: one of `USUAL_NAMES`, or the only object, function or class that can
            be a model.
        path: For messages.

    Raises:
        LoadError: There is no such name, none or more than one is obvious, or what it names needs arguments.
    """
    maker = _look_up(module, factory, path) if factory else _find(module, path)
    needed = [] if isinstance(maker, nn.Module) else _required(maker)
    if needed:
        name = getattr(maker, "__name__", repr(maker))
        raise LoadError(
            f"load: expected a factory without required arguments, got {name}({', '.join(needed)}) in {str(path)!r}. "
            "Add a function that gives them, and pass FILE.py:function."
        )
    return maker


def _look_up(module: ModuleType, factory: str, path: Path) -> Maker:
    made: Any = module
    for part in factory.split("."):
        if not hasattr(made, part):
            _refuse(path, f"a name in the file, got {factory!r}", module)
        made = getattr(made, part)
    if not (isinstance(made, nn.Module) or callable(made)):
        _refuse(path, f"a function, an nn.Module class or an nn.Module, got {factory} = {made!r}", module)
    maker: Maker = made
    return maker


def _find(module: ModuleType, path: Path) -> Maker:
    makers = _makers(module)
    for name in USUAL_NAMES:
        if name in makers:
            return makers[name]
    found = next((group for group in _candidates(makers) if group), {})
    if len(found) != 1:
        _refuse(path, f"one obvious model, got {len(found)}", module)
    return next(iter(found.values()))


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


def _refuse(path: Path, expected: str, module: ModuleType) -> NoReturn:
    names = sorted({name for group in _candidates(_makers(module)) for name in group})
    advice = f"Pass one of {', '.join(f'{path}:{name}' for name in names)}" if names else "Add a function build_model()"
    raise LoadError(
        f"load: expected {expected} in {str(path)!r}. {advice}; it must return the model and need no arguments."
    )
