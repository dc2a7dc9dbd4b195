"""A bar on the terminal for steps that take more than a second; nothing of it is left when they end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from opcount.escapes import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 1.0
_PERIOD = 0.1
_WIDTH = 20
_BLOCK = 5
_ERASE = "\r\x1b[K"


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show that the block goes on once it has taken more than a second, if standard error is a terminal."""
    stream = sys.stderr
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_draw, args=(visible(what), stream, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _draw(what: str, stream: TextIO, done: threading.Event) -> None:
    started = time.monotonic()
    if done.wait(_PATIENCE):
        return
    with suppress(OSError, ValueError):  # a terminal that is closed
        try:
            while True:
                stream.write(_ERASE + _line(what, time.monotonic() - started))
                stream.flush()
                if done.wait(_PERIOD):
                    return
        finally:
            stream.write(_ERASE)
            stream.flush()


def _line(what: str, elapsed: float) -> str:
    """Return the bar, in which a block moves to and fro, no wider than the terminal: a second line would stay."""
    place = int(elapsed / _PERIOD) % (2 * (_WIDTH - _BLOCK))
    place = min(place, 2 * (_WIDTH - _BLOCK) - place)
    bar = f"[{' ' * place}{'=' * _BLOCK}{' ' * (_WIDTH - _BLOCK - place)}] {elapsed:.0f} s"
    room = max(shutil.get_terminal_size().columns - len(bar) - 2, 0)
    text = f"opcount: {what}"
    return f"{text if len(text) <= room else text[: max(room - 3, 0)] + '...'} {bar}"[: room + len(bar) + 1]
