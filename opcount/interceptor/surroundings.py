"""What has to hold around a counted block, restored afterwards."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run compiled functions eagerly, and backward on the calling thread.

    Under a dispatch mode dynamo skips a frame that it meets for the first time, for good: the stance keeps it
    from looking. It is set only where dynamo is loaded already, which takes longer than most counts. On an
    accelerator backward would run on a thread of its own, whose autograd sequence numbers collide with ours.
    """
    with ExitStack() as restore:
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            restore.enter_context(torch.compiler.set_stance("force_eager"))
        restore.enter_context(torch.autograd.set_multithreading_enabled(False))
        yield
