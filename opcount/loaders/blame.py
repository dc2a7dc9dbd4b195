"""Where an error that a model raised comes from: which of its modules, and which line."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_FOLDERS = (Path(nn.__file__).parents[1], Path(importlib.__file__).parent, Path(__file__).parents[1])
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
"""Where torch, importlib and opcount are: a line in there tells a user nothing."""


def blame(error: BaseException, model: nn.Module | None = None) -> str:
    """Return ``"RuntimeError in layer1.0.conv2 (Conv2d) at model.py:12: its own message"``.

    The module is the innermost of the model's that was running; the line is the innermost outside of torch, and within
    the model where one is given.
    """
    paths = {id(module): path for path, module in model.named_modules()} if model is not None else {}
    module = line = ""
    for frame, number in _frames(error):
        runs = frame.f_locals.get("self")
        if id(runs) in paths:
            module = f" in {paths[id(runs)] or 'the model itself'} ({type(runs).__name__})"
        file = frame.f_code.co_filename
        if (module or model is None) and not file.startswith((*_LIBRARIES, "<")):
            line = f" at {_short(file)}:{number}"
    message = str(error).strip()
    if isinstance(error, SyntaxError) and error.filename:
        line, message = f" at {_short(error.filename)}:{error.lineno}", error.msg
    return f"{type(error).__name__}{module}{line}" + (f": {message}" if message else "")


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _short(file: str) -> str:
    return file.removeprefix(f"{Path.cwd()}{os.sep}")
