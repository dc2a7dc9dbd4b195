"""TorchScript notes the shapes of its first runs, and fuses operators in later ones: a dry run is none of these."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opcount._torch.dispatch import optimize_scripts, optimizes_scripts
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def scripts_unprofiled() -> Iterator[None]:
    """Have TorchScript run graphs as they are on this thread, and note nothing."""
    with Undo() as undo:
        if optimizes_scripts():
            undo.add(_optimize)
            optimize_scripts(False)  # noqa: FBT003  (a function in C++)
        yield


def _optimize() -> None:
    optimize_scripts(True)  # noqa: FBT003
