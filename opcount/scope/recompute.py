"""Detection of a checkpoint that runs its function again inside a backward, and of its caller.

Modules that run again are known by their hooks. Operators outside of modules are recognised by the Python stack:
between an operator of a plain backward and the engine there are hardly any Python frames.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from opcount._torch.names import CHECKPOINT_FILE
from opcount.scope.engine import RUN_BACKWARD


class Rerun(NamedTuple):
    """A checkpoint that recomputes its forward.

    Attributes:
        checkpoint: The state that a non-reentrant one keeps of its forward; None for a reentrant one.
    """

    checkpoint: object | None


def find_rerun(depth: int = 1) -> Rerun | None:
    """Return the innermost checkpoint that is running again in the innermost backward of this thread.

    Args:
        depth: Number of Python frames from here up to the first one to look at.
    """
    frame: Any = sys._getframe(depth)
    while frame is not None and frame.f_code is not RUN_BACKWARD:
        code = frame.f_code
        if code.co_filename == CHECKPOINT_FILE:
            if code.co_name == "unpack_hook" and "frame" in code.co_freevars:
                return Rerun(frame.f_locals.get("frame"))
            if code.co_name == "backward":
                return Rerun(None)
        frame = frame.f_back
    return None


def checkpoint_of(pack_hook: Any) -> object | None:
    """Return a non-reentrant checkpoint's state, from its hook on saved tensors; None for other hooks."""
    code = getattr(pack_hook, "__code__", None)
    if code is None or code.co_filename != CHECKPOINT_FILE or "frame" not in code.co_freevars:
        return None
    found: object = pack_hook.__closure__[code.co_freevars.index("frame")].cell_contents
    return found
