"""The repeated blocks of a model, found by structure, and activation checkpoints around modules."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from opcount.errors import InputError
from opcount.selectors import ModulePattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def repeated_blocks(model: nn.Module) -> list[str]:
    """Return the paths of the blocks that a model repeats: of one class, outermost, with the most parameters together.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up, self.down = nn.Linear(4, 16), nn.Linear(16, 4)
        >>> repeated_blocks(nn.Sequential(nn.Linear(4, 4), Block(), Block(), nn.Linear(4, 4)))
        ['1', '2']
    """
    groups: dict[type[nn.Module], dict[str, int]] = {}
    for path, module in model.named_modules():
        kind = type(module)
        if not path or isinstance(module, _CONTAINERS) or not any(True for _ in module.children()):
            continue
        group = groups.setdefault(kind, {})
        if not any(path.startswith(f"{outer}.") for outer in group):
            group[path] = sum(p.numel() for p in module.parameters())
    several = [group for group in groups.values() if len(group) > 1]
    sizes = [sum(group.values()) for group in several]
    return list(several[sizes.index(max(sizes))]) if several else []


def as_pattern(paths: Iterable[str]) -> str:
    """Return paths with their numbers as ``*``.

    Example:
        >>> as_pattern(["h.0", "h.1"]), as_pattern(["layer1.0", "layer1.1", "layer2.0"])
        ('h.*', 'layer1.*, layer2.*')
    """
    return ", ".join(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", path) for path in paths))


def matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the paths of the modules that a pattern stands for, those inside of others left out.

    Raises:
        InputError: It stands for none.
    """
    wanted = ModulePattern(pattern)
    found: list[str] = []
    names = [path for path, _ in model.named_modules() if path]
    for path in names:
        if wanted.matches(path) and not any(path.startswith(f"{outer}.") for outer in found):
            found.append(path)
    if not found:
        raise InputError(
            f"--checkpoint: expected a pattern of module paths, got {pattern!r}, which matches none. "
            f"Modules begin with: {', '.join(names[:5])}."
        )
    return found


def checkpoint_modules(model: nn.Module, paths: Iterable[str]) -> None:
    """Have modules keep their inputs alone for backward, and compute the rest again; the model is changed."""
    for path in paths:
        module = model.get_submodule(path)
        module.forward = partial(_checkpointed, module.forward)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
