"""A plain Python file builds the model: a function, a class or an object in it."""

from __future__ import annotations

import reprlib
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType, NoneType
from typing import TYPE_CHECKING

import torch
from torch import nn

from opcount.errors import InputError, LoadError
from opcount.loaders.blame import blame
from opcount.loaders.build import near
from opcount.loaders.cli_values import called_with_shapes
from opcount.loaders.factory import build_from
from opcount.loaders.input_tensors import IMAGE, described
from opcount.loaders.request import Loaded
from opcount.model_inputs import read_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opcount.loaders.request import Inputs, Request

_VERSION = "__opcount_version__"
"""Attribute of an imported file: what it was when it was read, so that a second attempt does not run it again."""


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
    if request.cfg_options:
        raise LoadError(
            f"load: expected --cfg-options with a config only, got {request.cfg_options[0]!r} for the plain Python "
            f"file {str(path)!r}. Set it in the file."
        )
    module = _import(path)
    with _first_on_path(path.resolve().parent):
        model = build_from(module, factory, path, request)
    return with_inputs(model, module, request, path)


def with_inputs(model: nn.Module, module: ModuleType, request: Request, name: object) -> Loaded:
    """Return a model with the inputs asked for, else with those that its module declares.

    Raises:
        InputError: The module's ``input_shape`` or ``inputs`` are unusable.
    """
    if not request.input and not isinstance(getattr(module, "inputs", None), (ModuleType, NoneType)):
        inputs = _own_inputs(module, request, name)
        return Loaded(model, inputs, "file", described(inputs), declared=True)
    declared = _declared_shapes(module, request, name) if request.makes_inputs else []
    inputs, shape = called_with_shapes(model, request, declared)
    return Loaded(model, inputs, "file", shape, declared=hasattr(module, "input_shape"))


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        advice = near(path.name, [file.name for file in path.parent.glob("*.py")]) or "Check the path."
        raise LoadError(f"load: expected a Python file, got {str(path)!r}, which does not exist. {advice}")
    name = f"opcount_file_{path.stem}"
    version = (path.resolve(), path.stat().st_mtime_ns, path.read_bytes())
    if getattr(sys.modules.get(name), _VERSION, None) == version:
        return sys.modules[name]
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
    setattr(module, _VERSION, version)
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Put the folder of a file first on the import path, as Python does when it runs the file."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _declared_shapes(module: ModuleType, request: Request, path: object) -> list[tuple[int, ...]]:
    given = getattr(module, "input_shape", IMAGE)
    shapes = read_shapes(given, f"load: input_shape of {path}")
    if len(shapes) > 1 and request.shape:
        raise InputError(
            f"load: expected no --shape, got {request.shape!r}: {path} declares several inputs, {given!r}. "
            "Edit its input_shape."
        )
    return shapes


def _own_inputs(module: ModuleType, request: Request, path: object) -> Inputs:
    if request.shape or request.batch_size:
        raise InputError(
            f"load: expected neither --shape nor --batch-size, got them for {str(path)!r}, "
            "which makes its own `inputs`. Edit these."
        )
    inputs = module.inputs
    try:
        inputs = inputs() if callable(inputs) and not isinstance(inputs, torch.Tensor) else inputs
    except Exception as error:
        raise InputError(f"load: inputs() of {path} raised: {blame(error)}") from error
    if not isinstance(inputs, (torch.Tensor, tuple, dict)):
        raise InputError(
            f"load: expected inputs of {path} to be a tensor, a tuple of arguments or a dict of keyword arguments, "
            f"got {reprlib.repr(inputs)} of type {type(inputs).__name__}. Wrap them in a tuple."
        )
    return _moved(inputs, request.device)


def _moved(inputs: Inputs, device: str) -> Inputs:
    def move(value: object) -> object:
        return value.to(device) if isinstance(value, torch.Tensor) else value

    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    return {k: move(v) for k, v in inputs.items()} if isinstance(inputs, dict) else tuple(map(move, inputs))
