"""``package.module:factory``: anything that Python can import."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from opcount.errors import LoadError
from opcount.loaders.blame import blame
from opcount.loaders.build import near
from opcount.loaders.factory import build_from
from opcount.loaders.pyfile import with_inputs

if TYPE_CHECKING:
    from types import ModuleType

    from opcount.loaders.request import Loaded, Request


def load(target: str, request: Request) -> Loaded:
    """Import ``package.module`` and call ``factory`` of it.

    Raises:
        LoadError: There is no such module or name, or it raises.
    """
    module_name, _, factory = target.partition(":")
    module = _import(module_name)
    return with_inputs(build_from(module, factory, module_name, request), module, request, module_name)


def _import(name: str) -> ModuleType:
    """Import what Python can import here: the working folder comes first, as it does for ``python -m``."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        advice = f" {near(name, _siblings(name))}".rstrip() if isinstance(error, ModuleNotFoundError) else ""
        raise LoadError(f"load: {name} cannot be imported: {blame(error).rstrip('.')}.{advice}") from error


def _siblings(name: str) -> list[str]:
    """Return the modules beside one that does not exist."""
    parent = name.rpartition(".")[0]
    if not parent:
        return [module.name for module in pkgutil.iter_modules()]
    path = getattr(sys.modules.get(parent), "__path__", None)
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(path)] if path is not None else []
