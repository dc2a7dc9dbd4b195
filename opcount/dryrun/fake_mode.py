"""A fake tensor mode for several threads at once: its state is thread-local."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import aten, set_fake_mode, take_fake_mode
from opcount._torch.fake import FakeTensorConverter, FakeTensorMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self


_IS_PINNED = torch.ops.aten.is_pinned.default
"""Question that fake tensors of old versions, 2.4 among them, raise an ``AssertionError`` at."""
_PIN = aten("_pin_memory.default")
"""Copy into pinned memory, which fake tensors of all versions raise an ``AssertionError`` at."""


class _Notes(threading.local):
    """Thread-local state that PyTorch keeps on the mode itself."""

    def __init__(self) -> None:
        self.in_kernel_invocation = False
        self.enter_stack: list[Any] = []
        self.fake_tensor_converter = FakeTensorConverter()
        self.old_dispatch_mode_flags: deque[bool] = deque()
        self.old_non_infra_dispatch_mode_flags: deque[bool] = deque()
        self.old_without_ignore_compile_internals_dispatch_mode_flags: deque[bool] = deque()


def _of_each_thread(name: str) -> Any:
    """Return a property with a getter in C, which no signal handler can interrupt on leaving the mode."""

    def write(self: DryMode, value: Any) -> None:
        setattr(self._notes, name, value)

    return property(attrgetter(f"_notes.{name}"), write)


class DryMode(FakeTensorMode):
    """Fake tensor mode of a dry run on all its threads; copied tensors share it."""

    in_kernel_invocation = _of_each_thread("in_kernel_invocation")
    enter_stack = _of_each_thread("enter_stack")
    fake_tensor_converter = _of_each_thread("fake_tensor_converter")
    old_dispatch_mode_flags = _of_each_thread("old_dispatch_mode_flags")
    old_non_infra_dispatch_mode_flags = _of_each_thread("old_non_infra_dispatch_mode_flags")
    old_without_ignore_compile_internals_dispatch_mode_flags = _of_each_thread(
        "old_without_ignore_compile_internals_dispatch_mode_flags"
    )

    def __init__(self, **settings: Any) -> None:
        self._notes = _Notes()
        super().__init__(**settings)

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer an operator; fake memory is never pinned, and a copy into pinned memory is any copy."""
        if func is _IS_PINNED:
            return False
        if func is _PIN:
            func, args, kwargs = torch.ops.aten.clone.default, args[:1], {}
        return super().dispatch(func, types, args, kwargs)


class _Places(threading.local):
    """Fake tensor modes of a thread: the first is from outside, or None; the last is active."""

    def __init__(self) -> None:
        self.modes: list[Any] = []


_PLACES = _Places()


def put_on_thread(mode: DryMode) -> None:
    """Activate a mode on this thread, without setting PyTorch's process-wide flags for dynamo."""
    before = take_fake_mode()
    if not _PLACES.modes:
        _PLACES.modes.append(before)
    _PLACES.modes.append(mode)
    set_fake_mode(mode)


def take_off_thread(mode: DryMode) -> None:
    """Deactivate a mode on this thread; several may end in any order. Idempotent."""
    modes = _PLACES.modes
    if mode not in modes:
        return
    current = take_fake_mode()
    modes.remove(mode)
    left = modes[-1] if current is mode else current
    if left is not None:
        set_fake_mode(left)
    if len(modes) == 1:
        modes.clear()


@contextmanager
def outside(mode: DryMode) -> Iterator[None]:
    """Run operators with a mode deactivated on this thread."""
    current = take_fake_mode()
    try:
        if current is not None and current is not mode:
            set_fake_mode(current)
        yield
    finally:
        if current is mode:
            set_fake_mode(mode)
