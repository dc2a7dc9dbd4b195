"""What counting adds to one small operator; a millisecond is a microsecond an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import measure
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

CALLS = 1000


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
    mode: Callable[[], AbstractContextManager[object]] | None, program: Callable[[], object]
) -> Callable[[], None]:
    """Return `CALLS` calls under a mode; entering it is counted, once."""

    def calls() -> None:
        for _ in range(CALLS):
            program()

    def run() -> None:
        if mode is None:
            calls()
        else:
            with mode():
                calls()

    return run


def run(cases: list[str] | None) -> list[measure.Result]:
    """Compare a counter with no mode, with modes that do nothing, and with FlopCounterMode."""
    results = []
    for name, program in programs().items():
        if cases and name not in cases:
            continue
        references = {
            "no mode": under(None, program),
            "an empty mode": under(Empty, program),
            "an empty mode that dynamo may see": under(Unwatched, program),
            "FlopCounterMode": under(lambda: FlopCounterMode(display=False), program),
        }
        with torch.no_grad():
            found = measure.compare(
                "overhead", f"{name} x {CALLS}", ("OpCounter", under(OpCounter, program)), references
            )
        results += found
    return results
