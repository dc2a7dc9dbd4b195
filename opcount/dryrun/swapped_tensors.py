"""Modules whose tensors the program has swapped when a dry run first meets them, as ``functional_call`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.modules import buffers_of, parameters_of, submodules_of
from opcount.dryrun.containers import put_back_dict
from opcount.identity import identity

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from torch import nn


def put_back_certain(is_ours: Callable[[Any], bool], reference: weakref.ref[nn.Module], before: Any) -> None:
    """Restore a module, except for tensors that the program swapped before; those must be back already.

    Args:
        is_ours: Returns whether a tensor belongs to the dry run.
        reference: Weak reference to the module.
        before: Its attributes and its nonempty tables, each with its earlier contents.

    Raises:
        ValueError: A tensor of the dry run is left.
    """
    module = reference()
    if module is None:
        return
    left = []
    tables = [parameters_of(module), buffers_of(module), submodules_of(module)]
    known = {identity(now) for now, _ in before}
    for now, held in (*before, *((table, {}) for table in tables if identity(table) not in known)):
        if not isinstance(now, dict):
            continue
        exchanged = {name: now[name] for name, value in held.items() if is_ours(value) and name in now}
        left += [name for name, value in exchanged.items() if is_ours(value)]
        new = {name: value for name, value in now.items() if name not in held}
        certain = {name: value for name, value in {**new, **held}.items() if not is_ours(value)}
        put_back_dict(now, {**certain, **exchanged})
    if left:
        raise ValueError(f"{type(module).__name__}.{left[0]}, which the program has put there by hand and left there")


def own_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """Return a module's own parameters, buffers and attributes by name."""
    attributes = vars(module)
    tables = [attributes.get(name) or {} for name in ("_parameters", "_buffers")]
    return [pair for table in (*tables, attributes) for pair in table.items()]
