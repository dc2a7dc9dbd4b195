"""``package.module:factory``: anything that Python can import."""

from __future__ import annotations

import pkgutil
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.errors import LoadError
from opcount.loaders.blame import blame
from opcount.loaders.build import build, near
from opcount.loaders.given import arguments
from opcount.loaders.pyfile import with_inputs

if TYPE_CHECKING:
    from types import ModuleType

    from opcount.loaders.loaded import Loaded, Request


def load(target: str, request: Request) -> Loaded:
    """Import ``package.module`` and call ``factory`` of it.

    Raises:
        LoadError: There is no such module or name, or it raises.
    """
    module_name, _, factory = target.partition(":")
    module = _import(module_name)
    found: Any = module
    for part in factory.split("."):
        if not hasattr(found, part):
            advice = near(part, [name for name in dir(found) if not name.startswith("_")])
            raise LoadError(
                f"load: expected a name in {module_name}, got {factory!r}. {advice or 'Name a function or a class.'}"
            )
        found = getattr(found, part)
    make = (lambda: found) if isinstance(found, nn.Module) else partial(found, **arguments(request.use("arguments")))
    model = build(target, make, request)
    return with_inputs(model, module, request, module_name)


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
