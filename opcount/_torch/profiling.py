"""The profiler's allocation events one by one, which its public methods only add up by operator."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch.profiler import ProfilerActivity, profile

from opcount._torch.lookup import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

profiler_runs: Callable[[], bool] = need("autograd._profiler_enabled")
"""Returns whether this thread is being profiled; a second profiler would end the first one's recording."""

_LOG_LEVEL = "KINETO_LOG_LEVEL"


def allocation_profiler() -> Any:
    """Return a profiler of what is allocated on the CPU."""
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def start_silently(profiler: Any) -> None:
    """Start a profiler; the first one of a process loads a library that complains of a GPU which is not there."""
    if _LOG_LEVEL in os.environ:
        profiler.start()
        return
    os.environ[_LOG_LEVEL] = "99"
    try:
        profiler.start()
    finally:
        del os.environ[_LOG_LEVEL]


def allocations_of(profiler: Any) -> Iterator[int]:
    """Yield the bytes that a stopped profiler saw allocated on the CPU, in order; what was freed is negative."""
    events = profiler.profiler.kineto_results.events()
    found = [
        (event.start_ns() if hasattr(event, "start_ns") else event.start_us(), number, event.nbytes())
        for number, event in enumerate(events)
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    for _, _, size in sorted(found):
        yield size
