"""The module and the line that an error of a model comes from."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from opcount.identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_FOLDERS = (Path(nn.__file__).parents[1], Path(importlib.__file__).parent, Path(__file__).parents[1])
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
"""Folders of torch, importlib and opcount: a line in there does not help a user."""

_LONG = 400
"""Characters of a message that is shown whole."""


def blame(error: BaseException, model: nn.Module | None = None) -> str:
    """Return ``"RuntimeError in layer1.0.conv2 (Conv2d) at model.py:12: its own message"``.

    The module is the innermost of the model's that was running; the line is the innermost outside of torch, and within
    the model where one is given.
    """
    module, line = _place(error, model)
    message = brief(str(error))
    if isinstance(error, SyntaxError) and error.filename:
        line, message = f"{_short(error.filename)}:{error.lineno}", error.msg
    where = f" in {module}" if module else ""
    where += f" at {line}" if line else ""
    return f"{type(error).__name__}{where}" + (f": {message}" if message else "")


def line_of(error: BaseException, model: nn.Module | None = None) -> str:
    """Return the innermost line of the program that raised an error: ``"model.py:12"``; empty if there is none."""
    return _place(error, model)[1]


def brief(message: str) -> str:
    """Return an error's message in one line; of a long one the first line, for the rest is not for users."""
    first = message.strip().partition("\n")[0]
    text = " ".join((message if len(message) <= _LONG else first).split())
    return text if len(text) <= _LONG else f"{text[:_LONG]} ..."


def _place(error: BaseException, model: nn.Module | None) -> tuple[str, str]:
    paths = {identity(module): path for path, module in model.named_modules()} if model is not None else {}
    module = line = ""
    for frame, number in _frames(error):
        runs = frame.f_locals.get("self")
        if identity(runs) in paths:
            module = f"{paths[identity(runs)] or 'the model itself'} ({type(runs).__name__})"
        file = frame.f_code.co_filename
        if (module or model is None) and not file.startswith((*_LIBRARIES, "<")):
            line = f"{_short(file)}:{number}"
    return module, line


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _short(file: str) -> str:
    return file.removeprefix(f"{Path.cwd()}{os.sep}")
