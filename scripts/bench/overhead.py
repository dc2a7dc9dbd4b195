"""What counting adds to small operators, beyond what they take without it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import measure
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

CALLS = 2000


class Empty(TorchDispatchMode):
    """Does nothing, as PyTorch makes such a mode."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


class Unwatched(TorchDispatchMode):
    """Does nothing, and is not hidden from dynamo, which costs half a microsecond."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Tell dynamo that this mode changes nothing that it compiles."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


def programs() -> dict[str, Callable[[], object]]:
    """Return one operator of each kind: elementwise, a product, a convolution, a view."""
    a, b, image, kernel = torch.ones(4, 4), torch.ones(4, 4), torch.ones(1, 2, 4, 4), torch.ones(2, 2, 3, 3)
    return {
        "add": lambda: torch.add(a, b),
        "mm": lambda: torch.mm(a, b),
        "conv2d": lambda: torch.conv2d(image, kernel),
        "view": lambda: a.view(16),
    }


def under(
    mode: AbstractContextManager[object], program: Callable[[], object], calls: int = CALLS
) -> Callable[[], None]:
    """Return calls under a mode that is entered again and again; entering it is timed, once for all of them."""

    def run() -> None:
        with mode:
            for _ in range(calls):
                program()

    return run


def run(cases: list[str] | None) -> list[measure.Result]:
    """Compare a counter with no mode, with modes that do nothing, and with FlopCounterMode."""
    results = []
    for name, program in programs().items():
        if cases and name not in cases:
            continue
        references = {
            "an empty mode": under(Empty(), program),
            "an empty mode that dynamo may see": under(Unwatched(), program),
            "FlopCounterMode": under(FlopCounterMode(display=False), program),
        }
        with torch.no_grad():
            subject = ("OpCounter", under(OpCounter(), program))
            results += measure.compare_added(
                "overhead", f"{name} x {CALLS}", subject, under(nullcontext(), program), references
            )
    return results
