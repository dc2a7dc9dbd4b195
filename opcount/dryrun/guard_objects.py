"""Objects of PyTorch's that are no modules and that a program changes in a dry run: noted before."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from torch.optim import lr_scheduler

from opcount.dryrun.fakes import active_mode

try:
    from torch.amp import grad_scaler
except ImportError:  # before 2.3
    from torch.cuda.amp import grad_scaler  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable


def _note(value: object) -> None:
    guard: Any = getattr(active_mode(), "guard", None)
    if guard is not None:
        guard.snapshot.note([value])


def _changing_object(original: Any) -> Any:
    """Return a method that changes the object that it is of, which is no module."""

    @functools.wraps(original)
    def change(value: Any, *args: Any, **kwargs: Any) -> Any:
        _note(value)
        return original(value, *args, **kwargs)

    return change


_STEPS = ("step", "update", "scale", "unscale_")
"""Methods by which schedulers and gradient scalers change themselves."""

_TRAINERS = [
    value
    for module in (lr_scheduler, grad_scaler)
    for value in vars(module).values()
    if isinstance(value, type) and value.__module__ == module.__name__
]

_OF_TRAINING = [(kind, name) for kind in _TRAINERS for name in _STEPS if name in vars(kind)]

OF_OBJECTS: dict[tuple[Any, str], Callable[[Any], Any]] = dict.fromkeys(_OF_TRAINING, _changing_object)
"""Methods that change objects, and what makes methods of them that note the objects before."""
