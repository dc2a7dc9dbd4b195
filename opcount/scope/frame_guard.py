"""Detection of code that ended by an exception without its exit hook, such as KeyboardInterrupt.

A token among the locals of a Python frame is freed with that frame, however it ends. If a handler still holds the
traceback, and with it the frame, a walk over the running frames decides.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING

from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Callable


class _Token:
    __slots__ = ("__weakref__",)


class FrameGuard:
    """Watches the Python frame that called a hook.

    Args:
        depth: Number of frames from the caller of this up to that frame.
        ended: Called when the frame has ended.
    """

    __slots__ = ("_frame", "_token")

    def __init__(self, depth: int, ended: Callable[[object], object]) -> None:
        frame = sys._getframe(depth + 1)
        token = _Token()
        frame.f_locals[f"__opcount_{identity(self)}"] = token  # a name of its own: several counters may watch one frame
        self._frame = identity(frame)  # no other frame's, as long as the token lives
        self._token = weakref.ref(token, ended)

    def is_running(self) -> bool:
        """Return whether the frame is on the stack of this thread."""
        if self._token() is None:
            return False
        frame = sys._getframe(1)
        while frame is not None:
            if identity(frame) == self._frame:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False
