"""Errors of a dry run, which name operator, module, line of the program and remedy."""

from __future__ import annotations

import copy
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.fake import fake_tensor
from opcount.dryrun.checks import asking
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_REMEDY = "Count a real run instead (dry_run=False), or give that module a formula of its own."
_OVER = "is given a tensor that was made in a dry run, which is over: it has a shape and no values"
_REMEDY_AFTERWARDS = "Make that tensor outside of the block, or the model or the copy that holds it."
_NEEDS_VALUES = tuple(
    getattr(fake_tensor, name)
    for name in ("DataDependentOutputException", "DynamicOutputShapeException", "UnsupportedOperatorException")
)
_UNABLE = tuple(
    kind
    for kind in (getattr(fake_tensor, name, None) for name in ("UnsupportedFakeTensorException",))
    if kind is not None
)
_SIGNS = (
    "FakeTensor",
    "fake tensor",
    "meta tensor",
    "'Meta' backend",
    "for tensor subclasses",
    "data pointer of Tensor",
    "doesn't have storage",
    "Couldn't swap",
    "data is not allocated yet",
    "shape_env",
    "Meta tensors",
    "no fake impl registered",
    "NYI: aten.",
    'on device "meta"',
    "Not available for 'meta'",
    "'QuantizedMeta' backend",
    "for mkldnn layout: meta",
    "_share_fd_: only available on CPU",
    "OpaqueTensorImpl",
    "__torch_dispatch__",
    "incompatible tensor type",
    "raw Tensor object is already associated",
    "different device objects",
    "Mixing fake modes",
    "Cannot copy out of meta",
    "non-Fake Tensor",
    "DryNumber",
    "Object of type float is not JSON serializable",
)
"""Parts of messages that only fake tensors cause."""

_INSTALLED = str(Path(torch.__file__).parents[1])
_FOLDERS = {"site-packages", "dist-packages"}
"""Folders of installed packages: an environment may have several."""

_PACKAGES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), copy.__file__)
_OPTIMIZERS = str(Path(torch.optim.__file__).parent)


class Refusals:
    """Make errors for operators that fake tensors cannot run, and remember the first.

    Args:
        where: Returns the path of the running module, or None outside of all modules.

    Attributes:
        first: The first refusal. The program may catch it and go on in a way that a real run would not take.
    """

    def __init__(self, where: Callable[[], str | None]) -> None:
        self._where = where
        self._over = False
        self.first: DryRunError | None = None

    @property
    def module(self) -> str:
        """Path of the running module; empty in the root module and outside of it."""
        return self._where() or ""

    @property
    def in_module(self) -> bool:
        """True while a module is running."""
        return self._where() is not None

    def end(self) -> None:
        """Ask no more for the running module; from now on, refuse what is done with the tensors that are left."""
        self._where = lambda: None
        self._over = True

    def refuse(
        self, operator: Any, reason: str = "needs the values of its inputs, and a dry run has none"
    ) -> DryRunError:
        """Return the error for a refused operator."""
        line = program_line(sys._getframe(1))
        if self._over:
            return _error(str(operator), "", f"{operator} {_OVER}", line, _REMEDY_AFTERWARDS)
        return self._remember(str(operator), reason, line)

    def later(self, operator: Any) -> Callable[[], DryRunError]:
        """Return a factory for the error of the current operator, raised only if its result is used."""
        reason = "needs the values of its inputs, and a dry run has none"
        return partial(self._remember, str(operator), reason, program_line(sys._getframe(1)), self.module)

    def explain(self, operator: Any, error: Exception, *, odd: bool = False) -> Exception:
        """Return the exception to raise for an operator's error: itself if a real run raises it as well.

        Args:
            operator: What raised it.
            error: What it raised.
            odd: Whether an argument cannot be faked.
        """
        if isinstance(error, _NEEDS_VALUES):
            return self.refuse(operator)
        if isinstance(error, DryRunError):
            return error
        if odd or is_of_fakes(error):
            return self.refuse(operator, f"cannot run on fake tensors ({_first_line(error)})")
        return error

    def note(self, error: Exception) -> None:
        """Remember an error that ends a thread's work, if a real run does not raise it."""
        if self.first is not None:
            return
        if isinstance(error, DryRunError):
            self.first = error
        elif is_of_fakes(error) and (not isinstance(error, AssertionError) or _raised_by_torch(error)):
            line = program_line_of(error.__traceback__)
            self._remember("", f"an operation cannot run on fake tensors ({_first_line(error)})", line)

    def on_leaving(self, error: Exception) -> DryRunError | None:
        """Return the exception to raise in place of an error that leaves the block, or None for itself."""
        self.note(error)
        first = self.forget()
        return None if isinstance(error, DryRunError) else first

    def at_the_end(self) -> DryRunError | None:
        """Return the exception to raise on a normal exit, or None if nothing was refused."""
        first = self.forget()
        if first is None:
            return None
        ending = "The error was caught inside, or ended another thread; what followed is no real run's."
        error = DryRunError(f"{first} {ending}")
        vars(error).update(vars(first))
        return error

    def forget(self) -> DryRunError | None:
        """Return the first refusal, and forget it.

        Its traceback refers to fake tensors, and these to autograd's graph: a cycle that the garbage collector does not
        see.
        """
        first, self.first = self.first, None
        return first

    def _remember(self, operator: str, reason: str, line: tuple[str, int], module: str | None = None) -> DryRunError:
        module = self.module if module is None else module
        subject = f"{operator} in {module or 'the model itself'} " if operator else ""
        error = _error(operator, module, f"{subject}{reason}", line, _REMEDY)
        self.first = self.first or error
        return error


def _error(operator: str, module: str, what: str, line: tuple[str, int], remedy: str) -> DryRunError:
    error = DryRunError(f"dry run: {what}, at {line[0]}:{line[1]}. {remedy}")
    error.operator, error.module = operator, module
    error.file, error.line = line
    return error


def is_of_fakes(error: BaseException) -> bool:
    """Return whether an error was raised because a tensor is fake."""
    if isinstance(error, (*_NEEDS_VALUES, *_UNABLE)):
        return True
    text = str(error)
    return isinstance(error, (RuntimeError, TypeError, AssertionError, NotImplementedError)) and any(
        sign in text for sign in _SIGNS
    )


def _raised_by_torch(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGES)


def program_line(frame: FrameType | None) -> tuple[str, int]:
    """Return file and line of the innermost frame outside of PyTorch, opcount and ``copy``."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*_PACKAGES, "<")):
            return file, frame.f_lineno
        frame = frame.f_back
    return "<unknown>", 0


def made_by_a_library() -> bool:
    """Return whether an optimizer of PyTorch runs, or an installed package is the innermost caller of PyTorch."""
    frame = asking(sys._getframe(1))
    if frame is not None and frame.f_code.co_filename.startswith(_OPTIMIZERS):
        return True
    file = program_line(frame)[0]
    return file.startswith(_INSTALLED) or not _FOLDERS.isdisjoint(Path(file).parts)


def program_line_of(trace: TracebackType | None) -> tuple[str, int]:
    """Return file and line of a traceback's innermost frame outside of PyTorch and opcount."""
    found = ("<unknown>", 0)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((*_PACKAGES, "<")):
            found = file, trace.tb_lineno
        trace = trace.tb_next
    return found


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
