"""``package.module:factory``: anything that Python can import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from opcount.errors import LoadError
from opcount.loaders.blame import blame
from opcount.loaders.build import build
from opcount.loaders.given import arguments, given_inputs
from opcount.loaders.loaded import Loaded
from opcount.loaders.shapes import image_shape, random_inputs

if TYPE_CHECKING:
    from opcount.loaders.loaded import Request


def load(target: str, request: Request) -> Loaded:
    """Import ``package.module`` and call ``factory`` of it.

    Raises:
        LoadError: There is no such module or name, or it raises.
    """
    module_name, _, factory = target.partition(":")
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        raise LoadError(f"load: {module_name} cannot be imported: {blame(error)}") from error
    for part in factory.split("."):
        if not hasattr(found, part):
            raise LoadError(f"load: expected a name in {module_name}, got {factory!r}. Name a function or a class.")
        found = getattr(found, part)
    make = (lambda: found) if isinstance(found, nn.Module) else lambda: found(**arguments(request.arguments))
    model = build(target, make, request)
    if request.inputs:
        return Loaded(model, given_inputs(request), "library", ", ".join(request.inputs))
    shape = image_shape(request.sizes)
    return Loaded(model, random_inputs(model, [shape], request), "library", shape)
