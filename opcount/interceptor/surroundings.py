"""What has to hold around a counted block, restored after the last one: blocks may overlap without nesting."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Eagerness:
    """Runs compiled functions eagerly in the whole process.

    Under a dispatch mode dynamo skips a frame that it meets for the first time, for good: the stance keeps it
    from looking. It is set only where dynamo is loaded already, for loading it takes longer than most counts.
    """

    def __init__(self) -> None:
        self._users: set[object] = set()
        self._set: list[tuple[Any, Any]] = []
        """The stances that were set for users, each with the one before."""
        self._lock = threading.RLock()  # reentrant: the collector may end another block while it is held

    def enter(self, user: object) -> None:
        with self._lock:
            self._users.add(user)
            dynamo = sys.modules.get("torch._dynamo.eval_frame")
            if dynamo is None or not hasattr(dynamo, "DynamoStance"):
                return
            before = dynamo._stance
            if not any(before is ours for ours, _ in self._set):
                ours = dynamo.DynamoStance("force_eager")
                self._set.append((ours, before))
                dynamo._set_stance(ours)

    def leave(self, user: object) -> None:
        """Restore what was before the first user, unless the program has set another stance since."""
        with self._lock:
            self._users.discard(user)
            while self._set and not self._users:
                ours, before = self._set[-1]
                dynamo = sys.modules["torch._dynamo.eval_frame"]
                if dynamo._stance is ours:
                    dynamo._set_stance(before)
                vars(ours).update(vars(before))  # a context manager of the program may bring it back
                self._set.pop()


_EAGERNESS = _Eagerness()


def run_eagerly(undo: Undo) -> None:
    """Run compiled functions eagerly until the steps have run."""
    undo.add(partial(_EAGERNESS.leave, undo))
    _EAGERNESS.enter(undo)


_NO_FAST_PATH: Any = 0
"""In place of False, which is the program's own: the fast paths are off, and a block has turned them off."""


@contextmanager
def attention_in_the_open() -> Iterator[None]:
    """Keep PyTorch from its attention and encoder fast paths, in which one operator stands for many modules."""
    with Undo() as undo:
        undo.add(partial(_allow_fast_path, torch.backends.mha.get_fastpath_enabled()))
        torch.backends.mha.set_fastpath_enabled(_NO_FAST_PATH)
        yield


def _allow_fast_path(before: Any) -> None:
    """Restore the setting, unless the program has made another since."""
    if type(torch.backends.mha.get_fastpath_enabled()) is not bool:
        torch.backends.mha.set_fastpath_enabled(before)
