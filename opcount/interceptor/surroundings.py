"""Settings of the process around a counted block, restored after the last one: blocks may overlap without nesting."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import higher_order_utils
from opcount._torch.higher_order import PASSED_TO_MODES
from opcount._torch.slow import (
    DYNAMO_PACKAGE,
    LOADING_COMPUTES,
    dynamo,
    eager_stance,
    end_stance,
    load_dynamo,
    set_stance,
    stance_of,
)
from opcount._torch.stand_ins import compiled_eagerly, fast_path_enabled, set_fast_path_enabled
from opcount.interceptor.function_code import python_function
from opcount.interceptor.imports import import_within
from opcount.interceptor.stack import dry_runs, unwatched
from opcount.scope.global_hooks import suspend
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Operator(threading.local):
    """True if this thread is in a higher-order operator that compiles itself."""

    compiles = False


_OPERATOR = _Operator()


class _Eagerness:
    """Runs compiled functions eagerly in the whole process.

    Under a dispatch mode dynamo skips a frame that it meets for the first time, for good: the stance keeps it
    from looking. It is set only where dynamo is loaded, for loading it takes longer than most counts.

    Higher-order operators (``torch.cond``, ``scan``) that a program calls outside of a compiled function compile
    themselves: dynamo makes the tensors that a body closes over its arguments, without which they get no gradients.
    So the stance does not hold for these.
    """

    def __init__(self) -> None:
        self._users: set[object] = set()
        self._set: list[tuple[Any, Any]] = []
        """The stances that were set for users, each with the one before."""
        self._lock = threading.RLock()  # reentrant: the collector may end another block while it is held

    def enter(self, user: object) -> None:
        with self._lock:
            self._users.add(user)
            self.set()

    def set(self) -> None:
        """Set the stance, if there are users and dynamo is loaded."""
        with self._lock:
            eval_frame = dynamo()
            if eval_frame is None or not self._users:
                return
            before = stance_of(eval_frame)
            if not any(before is ours for ours, _ in self._set):
                ours = eager_stance(before, _operator_compiles)
                self._set.append((ours, before))
                set_stance(eval_frame, ours)

    def leave(self, user: object) -> None:
        """Restore what was before the first user, unless the program has set another stance since."""
        with self._lock:
            self._users.discard(user)
            while self._set and not self._users:
                ours, before = self._set[-1]
                eval_frame = dynamo()
                if stance_of(eval_frame) is ours:
                    set_stance(eval_frame, before)
                end_stance(ours, before)
                self._set.pop()


def _operator_compiles() -> bool:
    return _OPERATOR.compiles


_EAGERNESS = _Eagerness()


_LOADERS = ("compile",) if PASSED_TO_MODES else ("compile", "cond")


def _loading_dynamo(original: Any) -> Any:
    """Patch what first loads dynamo: a function that it met under a mode would never be compiled.

    The first call ends the patch: dynamo may trace the function next, and cannot trace the code of a patch.
    """

    @wraps(original)
    def load_first(*args: Any, **kwargs: Any) -> Any:
        with unwatched():  # it runs operators in some versions
            load_dynamo()
        _EAGERNESS.set()
        patched = python_function(vars(torch).get(original.__name__))
        if patched is not None and load_first in patched.__code__.co_consts:
            patched.__code__ = original.__code__
        return original(*args, **kwargs)

    return load_first


def _exporting(original: Any) -> Any:
    """Patch what may have dynamo trace a model: it does so in spite of the stance, and not what a counter does."""
    parameters = signature(original).parameters

    @wraps(original)
    def export(*args: Any, **kwargs: Any) -> Any:
        strict = kwargs.get("strict", parameters["strict"].default) if "strict" in parameters else True
        dry = dry_runs()
        if strict and dry:
            raise dry[0].refuse("torch.export.export", "traces code in strict mode, and a dry run answers it untraced")
        if not strict:
            return original(*args, **kwargs)
        before = _OPERATOR.compiles
        with unwatched(), Undo() as undo:
            suspend(undo)
            load_dynamo()
            _OPERATOR.compiles = True
            try:
                return original(*args, **kwargs)
            finally:
                _OPERATOR.compiles = before

    return export


_COMPILING = "_set_compilation_env"


def _compiling(original: Any) -> Any:
    """Patch what every operator enters that compiles itself."""

    @contextmanager
    def compiling() -> Iterator[None]:
        dry = dry_runs()
        before = _OPERATOR.compiles
        _OPERATOR.compiles = not dry
        try:
            with ExitStack() as stack:
                stack.enter_context(original())
                if dry:  # dynamo knows no fake tensors of ours
                    stack.enter_context(compiled_eagerly())
                    stack.enter_context(dry[0].watch_operator())
                yield
        finally:
            _OPERATOR.compiles = before

    return compiling


def unseen(original: Any) -> Any:
    """Patch what runs a body to trace it."""

    @wraps(original)
    def run_unseen(*args: Any, **kwargs: Any) -> Any:
        with unwatched():
            return original(*args, **kwargs)

    return run_unseen


_CAN_COMPILE = hasattr(higher_order_utils, _COMPILING)
"""True if dynamo compiles under a mode, and does not skip for good what it meets there."""

PATCHED_AROUND: dict[tuple[Any, str], Any] = {
    **{(torch, name): _loading_dynamo for name in _LOADERS if hasattr(torch, name)},
    (torch.export, "export"): _exporting,
    **({(higher_order_utils, _COMPILING): _compiling} if _CAN_COMPILE else {}),
}
"""Wrappers by module and function, in place while compiled functions run eagerly and operators compile themselves."""


def run_eagerly(undo: Undo) -> None:
    """Run compiled functions eagerly until the steps have run."""
    undo.add(partial(_EAGERNESS.leave, undo))
    _EAGERNESS.enter(undo)
    if LOADING_COMPUTES and dynamo() is None:  # an optimizer that is made inside loads it, too
        import_within(unwatched, undo, only=DYNAMO_PACKAGE)


_NO_FAST_PATH: Any = 0
"""Value in place of False, which is the program's own: a block has turned the fast paths off."""


@contextmanager
def fused_attention_disabled() -> Iterator[None]:
    """Keep PyTorch from its attention and encoder fast paths, in which one operator stands for many modules."""
    with Undo() as undo:
        undo.add(partial(_allow_fast_path, fast_path_enabled()))
        set_fast_path_enabled(_NO_FAST_PATH)
        yield


def _allow_fast_path(before: Any) -> None:
    """Restore the setting, unless the program has made another since."""
    if type(fast_path_enabled()) is not bool:
        set_fast_path_enabled(before)
