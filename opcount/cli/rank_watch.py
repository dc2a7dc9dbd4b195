"""A watch over a rank: keeps its count if the process is told to end, or hangs, while its main thread waits in C++."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from opcount.scope.engine import RUN_BACKWARD

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import Self

HANGS = "hangs at"
"""The beginning of what is said of a rank for which others wait."""

_TERMINATED = 128 + signal.SIGTERM
_FAILED = 1
_WAITING = tuple(
    os.path.join(*parts)  # noqa: PTH118  (a part of a path, compared as text)
    for parts in (
        ("torch", "distributed", ""),
        ("torch", "nn", "parallel", "distributed.py"),
        ("opcount", "interceptor", "collectives.py"),
    )
)
"""Files whose code waits for other ranks."""

_OURS = str(Path(__file__).parents[1]) + os.sep


class RankWatch:
    """Runs a thread beside a program, from entering to leaving.

    A handler of Python runs between two lines of the main thread, which may wait for another rank meanwhile: it does
    nothing here, and the thread acts on the signal.

    Args:
        end: Called with how the program ended, before the process is ended.
        calls: Returns how many operators have run.
        stall: Seconds without an operator after which the program is taken to hang; None: any number may pass.

    Attributes:
        told: Whether the process was told to end.
    """

    def __init__(self, end: Callable[[str], None], calls: Callable[[], int], stall: float | None) -> None:
        self._end, self._calls, self._stall = end, calls, stall
        self.told = False
        self._running = False
        self._main = threading.main_thread().ident
        self._read, self._write = socket.socketpair()  # which every system can wait for
        self._write.setblocking(False)  # noqa: FBT003  (the only form)
        self._thread = threading.Thread(target=self._watch, name="opcount rank watch", daemon=True)

    def __enter__(self) -> Self:
        self._running = True
        self._handler = signal.signal(signal.SIGTERM, self._tell)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the program: from now on a signal only says to hurry."""
        self._running = False
        signal.set_wakeup_fd(self._wakeup)

    def close(self) -> None:
        """Put back what signals do."""
        signal.signal(signal.SIGTERM, self._handler)

    def _tell(self, *_: Any) -> None:
        self.told = True

    def _watch(self) -> None:
        last, since = -1, monotonic()
        while self._running:
            ready, _, _ = select.select([self._read], [], [], 0.2)
            if not self._running:
                return
            calls = self._calls()
            if calls != last:
                last, since = calls, monotonic()
            idle = monotonic() - since
            if ready and signal.SIGTERM in self._read.recv(64):
                hangs = self._stall is not None and idle > self._stall / 2  # the others waited for it, and have ended
                self._leave(self._where() if hangs else "was told to end, by a signal", _TERMINATED)
            if self._stall is not None and idle > self._stall:
                self._leave(self._where(), _FAILED)

    def _leave(self, how: str, status: int) -> None:
        """End the process, whatever its main thread waits for."""
        try:
            self._end(how)
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(status)

    def _where(self) -> str:
        """Return where the program hangs: in its own code, or in a collective for which another rank is missing."""
        frame: FrameType | None = sys._current_frames().get(self._main or 0)  # noqa: SLF001  (the only way)
        own = ""
        while frame is not None:
            name = frame.f_code.co_filename
            if any(part in name for part in _WAITING) or (frame.f_code is RUN_BACKWARD and not own):
                return "waited in a collective for another rank"
            if not own and not name.startswith(_OURS):
                own = f"{name}:{frame.f_lineno}"
            frame = frame.f_back
        return f"{HANGS} {own}"
