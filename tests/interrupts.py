"""Programs interrupted at a chosen line or instruction of opcount, and what they may leave behind: nothing."""

from __future__ import annotations

import dis
import linecache
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import torch
from torch.utils import _python_dispatch

import opcount
from opcount.dryrun import threads
from opcount.interceptor import surroundings
from opcount.interceptor.observe import PATCHES
from opcount.scope import engine, global_hooks, scopes
from tests.conftest import traces

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_PATCHES = (PATCHES, threads._PATCHES)
_LOCKS = (engine._LOCK, surroundings._EAGERNESS._lock, *(patches._lock for patches in _PATCHES))
PACKAGE = str(Path(opcount.__file__).parent)


class Interruption:
    """Raises at the n-th line that opcount runs; counts them from 1 on.

    Args:
        place: Where to raise; 0: nowhere.
        event: ``"line"``, or ``"opcode"`` for every instruction.
    """

    def __init__(self, place: int, event: str = "line", error: type[BaseException] = KeyboardInterrupt) -> None:
        self.place = place
        self.seen = 0
        self.where = ""
        self._event = event
        self._error = error

    def run(self, program: Callable[[], object]) -> bool:
        """Run a program; tell whether the interrupt came out of it."""
        before, hook = sys.gettrace(), sys.unraisablehook
        sys.unraisablehook = lambda _: None  # what is raised in a destructor does not come out
        sys.settrace(self._enter)
        try:
            program()
        except self._error:
            return True
        finally:
            sys.settrace(before)
            sys.unraisablehook = hook
        return False

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., object] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Callable[..., object]:
        if event == self._event and not _leaves_guard(frame):
            self.seen += 1
            if self.seen == self.place:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise self._error
        return self._step


def _leaves_guard(frame: FrameType) -> bool:
    """Return whether the next instruction is on the way to the release of a lock, or of torch functions.

    Python runs no handler of a signal between the last instruction of a block and the end of the call of an
    ``__exit__`` that is written in C: that is where locks get their safety from. PyTorch's guard of torch functions
    has no destructor that would stand in for its ``__exit__``, as the other guards have.
    """
    if frame.f_lineno is None:  # of the compiler's own making
        return True
    operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    if operation == "NOP":  # at the end of a loop that ends a block; nothing is interrupted at it
        return True
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if not line.strip().lower().endswith("lock:") and "functions_disabled()" not in line:
        return False
    return operation == "LOAD_CONST" or not operation.startswith("LOAD")


def left() -> dict[str, object]:
    """Return the state of PyTorch, Python and opcount itself that a counter touches."""
    flags = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    return {
        **traces(),
        **flags,
        "warning filters": list(warnings.filters),
        "stance": surroundings._EAGERNESS._users | set(map(id, surroundings._EAGERNESS._set)),
        "torch functions": torch._C._is_torch_function_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "starting of threads": (Thread.start, ThreadPoolExecutor.submit),
        "finders of modules": list(sys.meta_path),
        "listeners": engine._listeners,
        "counting": dict(scopes._COUNTING),
        "keys of hooks": set(global_hooks._OURS),
        "locks": [lock._is_owned() for lock in _LOCKS],
    }
