"""Modules of PyTorch that take a second to import, imported when they are first asked for."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opcount._torch.lookup import VERSION, needed

if TYPE_CHECKING:
    from collections.abc import Callable

DYNAMO_PACKAGE = "torch._dynamo"
DYNAMO = f"{DYNAMO_PACKAGE}.eval_frame"
_STANCES = ("_stance", "_maybe_set_eval_frame", "set_eval_frame")  # since 2.6; in 2.5; before
LOADING_COMPUTES: bool = VERSION < (2, 9)
"""True if dynamo runs operators when it is loaded: in 2.6, products among them; in 2.9 it was seen to run none."""


def dynamo() -> Any:
    """Return the part of dynamo that holds its stance, if dynamo is loaded, else None."""
    module = sys.modules.get(DYNAMO)
    return module if any(hasattr(module, name) for name in _STANCES) else None


def load_dynamo() -> None:
    """Import dynamo."""
    import_module(DYNAMO)


def stance_of(eval_frame: Any) -> Any:
    """Return dynamo's stance, which decides whether compiled functions are compiled.

    Before 2.6 that is the function which compiled functions call to have dynamo look at frames.
    """
    return getattr(eval_frame, _stance_in(eval_frame))


def _stance_in(eval_frame: Any) -> str:
    return next(name for name in _STANCES if hasattr(eval_frame, name))


def set_stance(eval_frame: Any, stance: Any) -> None:
    """Set dynamo's stance."""
    if hasattr(eval_frame, "_set_stance"):
        eval_frame._set_stance(stance)
    else:
        setattr(eval_frame, _stance_in(eval_frame), stance)


def eager_stance(before: Any, may_compile: Callable[[], bool]) -> Any:
    """Return a stance like another, under which compiled functions run eagerly unless they may be compiled."""
    if not hasattr(before, "stance"):
        return _EagerSwitch(before, may_compile)
    kind: Any = type(before)
    ours: Any = object.__new__(_eager_kind(kind, may_compile))
    vars(ours).update(vars(before))
    return ours


def end_stance(ours: Any, before: Any) -> None:
    """Make a stance equal to the one before: a context manager of the program may bring it back."""
    if isinstance(ours, _EagerSwitch):
        ours.may_compile = _always
    else:
        ours.__class__ = type(before)
        vars(ours).update(vars(before))


@cache
def _eager_kind(kind: Any, may_compile: Callable[[], bool]) -> Any:
    """Make a class once: each one would be work for the collector."""

    def stance(ours: Any) -> str:
        return str(vars(ours)["stance"]) if may_compile() else "force_eager"

    return type(kind.__name__, (kind,), {"stance": property(stance)})


class _EagerSwitch:
    """Has dynamo look at no frame."""

    def __init__(self, switch: Callable[[Any], Any], may_compile: Callable[[], bool]) -> None:
        self._switch = switch
        self.may_compile = may_compile

    def __call__(self, callback: Any) -> Any:
        return self._switch(callback if self.may_compile() else None)


def _always() -> bool:
    return True


def decompositions() -> Any:
    """Return PyTorch's table of decompositions by overload."""
    with needed():
        from torch._decomp import decomposition_table  # noqa: PLC0415

    return decomposition_table


def triton_kernels() -> Any:
    """Return the table in which the higher-order operator for Triton finds kernels by number."""
    with needed():
        from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table  # noqa: PLC0415

    return kernel_side_table
