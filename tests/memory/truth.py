"""Allocation events of PyTorch's profiler, and a naive snapshot of all storages after each operator."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from opcount.interceptor.calls import tensors

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = "opcount.test.operator"


class Truth(NamedTuple):
    """Peaks by the allocator's events, without what was alive before.

    Attributes:
        peak: Of all events.
        between: At the ends of operators: without what kernels allocate and free inside.
    """

    peak: int
    between: int


class _Marking(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with record_function(_MARK):
            return func(*args, **kwargs or {})


def allocated(run: Callable[[], object]) -> Truth:
    """Run a program, and return what the profiler says of its memory."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, _Marking():
        run()
    events: list[tuple[int, int, int]] = []
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            events.append((event.start_ns(), 0, event.nbytes()))
        elif event.name() == _MARK:
            events.append((event.start_ns() + event.duration_ns(), 1, 0))
    live = peak = between = 0
    for _, is_end, size in sorted(events):
        live += size
        peak = max(peak, live)
        between = max(between, live) if is_end else between
    return Truth(peak, between)


class Snapshots(TorchDispatchMode):
    """After each operator, looks at all storages that operators have made, and keeps what is alive at a new peak.

    Attributes:
        peak: The most bytes.
        by_operator: Those by the operator that made them, or that changed their size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.by_operator: dict[str, int] = {}
        self._made: list[tuple[weakref.ref[Any], str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(storage) for made, _, _ in self._made if (storage := made()) is not None}
        old = {id(tensor.untyped_storage()) for tensor in tensors((*args, *(kwargs or {}).values()))} - known
        out = func(*args, **kwargs or {})
        for index, (made, _, size) in enumerate(self._made):
            storage = made()
            if storage is not None and storage.nbytes() != size:
                self._made[index] = made, str(func), storage.nbytes()
        for tensor in tensors((out,)):
            storage = tensor.untyped_storage()
            if id(storage) not in known | old:
                self._made.append((weakref.ref(storage), str(func), storage.nbytes()))
                known.add(id(storage))
        self._made = [made for made in self._made if made[0]() is not None]
        live = sum(size for _, _, size in self._made)
        if live > self.peak:
            self.peak, self.by_operator = live, {}
            for _, name, size in self._made:
                self.by_operator[name] = self.by_operator.get(name, 0) + size
        return out
