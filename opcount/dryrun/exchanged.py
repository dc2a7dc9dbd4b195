"""Modules that a dry run meets while the program has other tensors in them, as ``functional_call`` puts them there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opcount._torch.modules import buffers_of, parameters_of, submodules_of
from opcount.dryrun.containers import put_back_dict

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from torch import nn


def put_back_certain(is_ours: Callable[[Any], bool], reference: weakref.ref[nn.Module], before: Any) -> None:
    """Put back a module, but for what the program has exchanged before; that has to be back by now.

    Args:
        is_ours: Whether a tensor is of the dry run.
        reference: The module.
        before: Its attributes and its tables that were not empty, each with what it held.

    Raises:
        ValueError: A tensor of the dry run is still there.
    """
    module = reference()
    if module is None:
        return
    left = []
    tables = [parameters_of(module), buffers_of(module), submodules_of(module)]
    known = {id(now) for now, _ in before}
    for now, held in (*before, *((table, {}) for table in tables if id(table) not in known)):
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
    """Return what may be the tensors of a module itself, by name."""
    attributes = vars(module)
    tables = [attributes.get(name) or {} for name in ("_parameters", "_buffers")]
    return [pair for table in (*tables, attributes) for pair in table.items()]
