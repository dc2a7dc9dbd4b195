"""Progress messages on standard error, for steps that take more than a second."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 1.0


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Print a message once the block has taken more than a second."""

    def say() -> None:
        print(f"opcount: {what} ...", file=sys.stderr, flush=True)

    timer = threading.Timer(_PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
