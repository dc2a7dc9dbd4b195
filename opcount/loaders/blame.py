"""Where an error that a model raised comes from: which of its modules, and which line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LIBRARY = os.path.dirname(os.path.dirname(nn.__file__)) + os.sep  # noqa: PTH120  (compared with code objects' file names)


def blame(error: BaseException, model: nn.Module | None = None) -> str:
    """Return ``"RuntimeError in layer1.0.conv2 (Conv2d) at model.py:12: its own message"``.

    The module is the innermost of the model's that was running; the line is the innermost outside of torch.
    """
    paths = {id(module): path for path, module in model.named_modules()} if model is not None else {}
    module = line = ""
    for frame, number in _frames(error):
        runs = frame.f_locals.get("self")
        if id(runs) in paths:
            module = f" in {paths[id(runs)] or 'the model itself'} ({type(runs).__name__})"
        file = frame.f_code.co_filename
        if not file.startswith((_LIBRARY, "<")):
            line = f" at {os.path.relpath(file) if _is_below(file) else file}:{number}"
    if isinstance(error, SyntaxError) and error.filename:
        line = f" at {error.filename}:{error.lineno}"
    message = str(error).strip()
    return f"{type(error).__name__}{module}{line}" + (f": {message}" if message else "")


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_below(file: str) -> bool:
    return file.startswith(os.getcwd() + os.sep)  # noqa: PTH109  (a string is compared)
