"""Time that counting adds to small operators, beyond what they take without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import measure
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = 1000


class Empty(TorchDispatchMode):
    """Mode without an effect, as PyTorch makes it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


class Unwatched(TorchDispatchMode):
    """Mode without an effect that is not hidden from dynamo, which costs half a microsecond."""

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
    """Return one operator of each kind: elementwise, products, a convolution, a view; and some of them in training."""
    a, b, image, kernel = torch.ones(4, 4), torch.ones(4, 4), torch.ones(1, 2, 4, 4), torch.ones(2, 2, 3, 3)
    weight = torch.ones(4, 4, requires_grad=True)

    @torch.enable_grad()
    def train() -> None:
        torch.add(torch.mm(weight, a), b).sum().backward()

    return {
        "add": lambda: torch.add(a, b),
        "mm": lambda: torch.mm(a, b),
        "addmm": lambda: torch.addmm(b, a, b),
        "training": train,
        "conv2d": lambda: torch.conv2d(image, kernel),
        "view": lambda: a.view(16),
    }


def times(program: Callable[[], object], calls: int = CALLS) -> Callable[[], None]:
    """Return a program that runs another so many times."""

    def run() -> None:
        for _ in range(calls):
            program()

    return run


def run(cases: list[str] | None) -> Iterator[measure.Result]:
    """Compare a counter with no mode, with modes that do nothing, and with FlopCounterMode."""
    for name, program in programs().items():
        if cases and name not in cases:
            continue
        references = {
            "an empty mode": Empty(),
            "an empty mode that dynamo may see": Unwatched(),
            "FlopCounterMode": FlopCounterMode(display=False),
        }
        with torch.no_grad():
            yield from measure.compare_added(
                "overhead", f"{name} x {CALLS}", times(program), ("OpCounter", OpCounter()), references
            )
