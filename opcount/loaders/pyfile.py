"""A plain Python file builds the model: a function, a class or an object in it."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import nn

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.loaded import Loaded
from opcount.loaders.shapes import IMAGE, check_shape, image_shape, random_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from opcount.loaders.loaded import Inputs, Request

USUAL_NAMES = ("build_model", "get_model", "create_model", "make_model", "model")
"""Where a model is looked for first, after the name of the file itself."""


def load(path: Path, factory: str, request: Request) -> Loaded:
    """Import the file, build its model, and make inputs of its ``input_shape``.

    Args:
        path: The file.
        factory: A name in it, dots allowed; empty: the one that is obvious.
        request: Sizes, batch, device, mode.

    Raises:
        LoadError: There is no such file or name, it raises, or it returns no module.
        InputError: The file's ``input_shape`` or ``inputs`` are unusable.
    """
    if request.options:
        raise LoadError(
            f"load: expected --cfg-options with a config only, got {request.options[0]!r} for the plain Python file "
            f"{str(path)!r}. Set it in the file."
        )
    module = _import(path)
    made = _look_up(module, factory, path) if factory else _find(module, path)
    model = _build(made, path, request.device).to(request.device).train(request.train)
    if hasattr(module, "inputs"):
        inputs = _own_inputs(module, request, path)
        return Loaded(model, inputs, "file", _describe(inputs))
    shapes = _shapes(module, request, path)
    return Loaded(model, random_inputs(model, shapes, request.batch_size), "file", shapes[0] if len(shapes) == 1 else shapes)


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"load: expected a Python file, got {str(path)!r}, which does not exist. Check the path.")
    name = f"opcount_file_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"load: expected a Python file, got {str(path)!r}. Name a file that ends in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _first_on_path(path.resolve().parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise LoadError(f"load: {path} raised when it was imported: {blame(error)}") from error
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours, as it does when it is run."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _look_up(module: ModuleType, factory: str, path: Path) -> object:
    made: object = module
    for part in factory.split("."):
        if not hasattr(made, part):
            _refuse(path, f"a name in the file, got {factory!r}", module)
        made = getattr(made, part)
    if not (isinstance(made, nn.Module) or callable(made)):
        _refuse(path, f"a function, an nn.Module class or an nn.Module, got {factory} = {made!r}", module)
    return made


def _find(module: ModuleType, path: Path) -> object:
    for name in (path.stem, *USUAL_NAMES):
        made = vars(module).get(name)
        if isinstance(made, nn.Module) or callable(made):
            return made
    groups = _candidates(module)
    found = next((group for group in groups if group), {})
    if len(found) != 1:
        _refuse(path, f"one obvious model, got {len(found)}", module)
    return next(iter(found.values()))


def _candidates(module: ModuleType) -> tuple[dict[str, object], ...]:
    """Return what can build a model without arguments, the surest first.

    Objects and functions that say they return a module; then classes; then functions that say nothing.
    """
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    here = {name: value for name, value in own.items() if getattr(value, "__module__", "") == module.__name__}
    classes = {n: v for n, v in here.items() if isinstance(v, type) and issubclass(v, nn.Module) and not _required(v)}
    functions = {n: v for n, v in here.items() if inspect.isfunction(v) and n != "main" and not _required(v)}
    sure = {n: v for n, v in own.items() if isinstance(v, nn.Module)}
    sure |= {n: v for n, v in functions.items() if _returns_module(v, module)}
    return sure, classes, {n: v for n, v in functions.items() if "return" not in v.__annotations__}


def _required(made: object) -> list[str]:
    """Return the names of the arguments that a call must give."""
    try:
        parameters = inspect.signature(made).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


def _returns_module(function: object, module: ModuleType) -> bool:
    hint = getattr(function, "__annotations__", {}).get("return")
    if isinstance(hint, str):
        hint = vars(module).get(hint, nn.Module if hint.split(".")[-1] == "Module" else None)
    return isinstance(hint, type) and issubclass(hint, nn.Module)


def _refuse(path: Path, expected: str, module: ModuleType) -> NoReturn:
    names = sorted({name for group in _candidates(module) for name in group})
    advice = f"Pass one of {', '.join(f'{path}:{name}' for name in names)}" if names else "Add a function build_model()"
    raise LoadError(
        f"load: expected {expected} in {str(path)!r}. {advice}; it must return the model and need no arguments."
    )


def _build(made: object, path: Path, device: str) -> nn.Module:
    if isinstance(made, nn.Module):
        return made
    name = getattr(made, "__name__", repr(made))
    if needed := _required(made):
        raise LoadError(
            f"load: expected a factory without required arguments, got {name}({', '.join(needed)}) in {str(path)!r}. "
            "Add a function that gives them, and pass FILE.py:function."
        )
    try:
        with _first_on_path(path.resolve().parent):
            model = _call(made, device)
    except (Exception, SystemExit) as error:
        raise LoadError(f"load: {path}:{name} raised when it was called: {blame(error)}") from error
    if not isinstance(model, nn.Module):
        raise LoadError(
            f"load: expected {path}:{name} to return an nn.Module, got {model!r} of type {type(model).__name__}. "
            "Return the model."
        )
    return model


def _call(made: object, device: str) -> object:
    """Call the factory; for the meta device without ever allocating the weights, where the factory bears that."""
    assert callable(made)
    if device == "meta":
        try:
            with torch.device(device):
                return made()
        except (RuntimeError, NotImplementedError):  # a constructor that reads a value, such as .item()
            return made()
    return made()


def _shapes(module: ModuleType, request: Request, path: Path) -> list[tuple[int, ...]]:
    given = getattr(module, "input_shape", IMAGE)
    who = f"load: input_shape of {path}"
    several = isinstance(given, (tuple, list)) and bool(given) and all(isinstance(s, (tuple, list)) for s in given)
    if not several:
        return [image_shape(request.sizes, check_shape(given, who))]
    if request.sizes:
        raise InputError(
            f"load: expected no --shape, got {request.sizes!r}: {path} declares several inputs, {given!r}. Edit its input_shape."
        )
    return [check_shape(shape, who) for shape in given]


def _own_inputs(module: ModuleType, request: Request, path: Path) -> Inputs:
    if request.sizes or request.batch_size != 1:
        raise InputError(
            f"load: expected neither --shape nor --batch-size, got them for {str(path)!r}, which makes its own `inputs`. Edit these."
        )
    inputs = module.inputs
    try:
        inputs = inputs() if callable(inputs) and not isinstance(inputs, torch.Tensor) else inputs
    except Exception as error:
        raise InputError(f"load: inputs() of {path} raised: {blame(error)}") from error
    if not isinstance(inputs, (torch.Tensor, tuple, dict)):
        raise InputError(
            f"load: expected inputs of {path} to be a tensor, a tuple of arguments or a dict of keyword arguments, "
            f"got {inputs!r} of type {type(inputs).__name__}. Wrap them in a tuple."
        )
    return _moved(inputs, request.device)


def _moved(inputs: Inputs, device: str) -> Inputs:
    def move(value: object) -> object:
        return value.to(device) if isinstance(value, torch.Tensor) else value

    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    return {k: move(v) for k, v in inputs.items()} if isinstance(inputs, dict) else tuple(map(move, inputs))


def _describe(inputs: Inputs) -> object:
    def shape(value: object) -> object:
        return tuple(value.shape) if isinstance(value, torch.Tensor) else value

    if isinstance(inputs, dict):
        return {name: shape(value) for name, value in inputs.items()}
    return shape(inputs) if isinstance(inputs, torch.Tensor) else tuple(map(shape, inputs))
