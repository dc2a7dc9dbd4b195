"""Fake mode of a thread: since 2.2 it has a slot of its own below the stack of modes; before, it is a mode like others.

The stand-ins keep it at the bottom of the stack, where the slot is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import find, need

if TYPE_CHECKING:
    from collections.abc import Callable

_count: Callable[[], int] = need("_C._len_torch_dispatch_stack")
_at: Callable[[int], Any] = need("_C._get_dispatch_stack_at")
_push: Callable[[Any], None] = need("_C._push_on_torch_dispatch_stack")
_pop: Callable[..., Any] = need("_C._pop_torch_dispatch_stack")
_KEY: Any = find("_C._TorchDispatchModeKey.FAKE")


def _found() -> Any:
    stack = map(_at, range(_count()))
    return next((mode for mode in stack if any(kind.__name__ == "FakeTensorMode" for kind in type(mode).__mro__)), None)


def _take() -> Any:
    mode = _found()
    above = []
    while mode is not None and (top := _pop()) is not mode:
        above.append(top)
    for other in reversed(above):
        _push(other)
    return mode


def _set(mode: Any) -> None:
    above = [_pop() for _ in range(_count())]
    for each in (mode, *reversed(above)):
        _push(each)


def into_slot(mode: Any) -> None:
    """Move a fake mode that was entered to where its slot is."""
    if _KEY is None and any(kind.__name__ == "FakeTensorMode" for kind in type(mode).__mro__):
        _move(mode, 0)


def out_of_slot(mode: Any) -> None:
    """Move a fake mode that is to be left to the top, where PyTorch expects it."""
    if _KEY is None:
        _move(mode, None)


def _move(mode: Any, height: int | None) -> None:
    modes = [_pop() for _ in range(_count())][::-1]
    modes = [other for other in modes if other is not mode]
    modes.insert(len(modes) if height is None else height, mode)
    for each in modes:
        _push(each)


pop_mode: Callable[[None], Any] = _pop if _KEY is not None else lambda _key: _pop()
"""Takes the top of this thread's stack of modes."""
fake_mode: Callable[[], Any] = _found if _KEY is None else partial(need("_C._get_dispatch_mode"), _KEY)
"""Returns the fake mode of this thread, or None."""
take_fake_mode: Callable[[], Any] = _take if _KEY is None else partial(need("_C._unset_dispatch_mode"), _KEY)
"""Takes the fake mode off this thread; returns it, or None."""
set_fake_mode: Callable[[Any], None] = _set if _KEY is None else need("_C._set_dispatch_mode")
