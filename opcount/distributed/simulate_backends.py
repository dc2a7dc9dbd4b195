"""Backends that a simulated program asks for its process groups: they decide what a real rank would run."""

from __future__ import annotations

from typing import Any

from torch import distributed as dist

from opcount._torch.distributed import group_name


class Backends:
    """The backends that a program asked for its process groups.

    Attributes:
        default: That of groups for which it names none.
    """

    def __init__(self) -> None:
        self.default: object = None
        self._asked: dict[str, str] = {}

    def note(self, name: str, backend: str) -> None:
        """Remember what was asked for a group."""
        self._asked[name] = backend

    def asked(self, group: Any) -> object:
        """Return what was asked for a group."""
        name = group_name(dist.group.WORLD if group is None else group)
        return self._asked.get(name, self.default)

    def are_gloo(self, group: Any) -> bool:
        """Return whether a group would be one of gloo."""
        return is_gloo(self.asked(group))


def is_gloo(backend: object) -> bool:
    """Return whether tensors on an accelerator, or on the CPU if there is none, are sent by gloo.

    Example:
        >>> is_gloo("gloo"), is_gloo("cpu:gloo,cuda:nccl"), is_gloo(None)
        (True, False, False)
    """
    return str(backend).lower() in {"gloo", "cpu:gloo"}
