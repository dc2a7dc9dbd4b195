"""Refuse a backward that a dry run would count wrongly: through a higher-order operator that dynamo has to compile.

PyTorch compiles the body of an operator such as ``torch.cond`` or ``scan``, for the tensors that it closes over get
gradients only as its arguments. Dynamo cannot compile what computes with the fake tensors of a dry run, so that their
gradients would be missing.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from opcount._torch.dispatch import HigherOrderOperator, functions_disabled
from opcount._torch.functorch import TransformType
from opcount.identity import identity
from opcount.interceptor.calls import tensors
from opcount.interceptor.stack import dry_runs
from opcount.scope.engine import ignore, listen
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.dryrun.refusals import Refusals

_CHANGED = {"map_impl"}
"""Operators whose result has another type if they are differentiated and not compiled."""

_DIFFERENTIATES = {"cond"}
"""Operators that, uncompiled, give gradients to their arguments, but not to the closures of their bodies."""


class Undifferentiated:
    """Note higher-order operators of a dry run that would be differentiated.

    Args:
        refusals: Refuses a backward after one.
    """

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._found = False

    @contextmanager
    def refusing_backwards(self, dry_run: Any) -> Iterator[None]:
        """Refuse backwards on the threads of a dry run while the block runs."""
        backwards = _Backwards(self, dry_run)
        with Undo() as undo:
            undo.add(partial(ignore, backwards))
            listen(backwards)
            yield

    def watch(self) -> TorchFunctionMode:
        """Return a mode for an operator that compiles itself, which finds tensors that require gradients."""
        return _Watch(self)

    def note(self, operator: str) -> None:
        """Note an operator that uses tensors which require gradients."""
        self._found = True
        if operator in _CHANGED:
            self.refuse()

    def run(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operator, or refuse it where only compiled code has a rule for a transform of ``torch.func``."""
        try:
            return func(*args, **kwargs)
        except KeyError as error:
            if not isinstance(func, HigherOrderOperator) or not isinstance(error.args[0], TransformType):
                raise
            reason = "is transformed by torch.func, for which it has to be compiled"
            raise self._refusals.refuse(func.name(), reason) from error

    def refuse(self) -> None:
        """Refuse a backward if it may need an uncompiled body."""
        if self._found:
            raise self._refusals.refuse(
                "a backward",
                "needs the gradients of a higher-order operator, whose body is not compiled for fake tensors",
            )


class _Backwards:
    """Listener for backwards."""

    def __init__(self, operators: Undifferentiated, dry_run: Any) -> None:
        self._operators = operators
        self._dry_run = dry_run

    def begin_backward(self, _roots: Any, _undo: Undo, *, create_graph: bool) -> None:
        del create_graph
        if any(mode is self._dry_run for mode in dry_runs()):
            self._operators.refuse()


class _Watch(TorchFunctionMode):
    """Find tensors that require gradients in one operator and its bodies."""

    def __init__(self, operators: Undifferentiated) -> None:
        super().__init__()
        self._operators = operators
        self._differentiates = torch.is_grad_enabled()
        self._operator = ""
        self._own: dict[int, torch.Tensor] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._differentiates:
            return self._operators.run(func, args, kwargs)
        is_operator = isinstance(func, HigherOrderOperator)
        before = self._operator
        if is_operator:
            self._operator = func.name()  # type: ignore[attr-defined]
        if self._lacks_gradients((*args, *kwargs.values()), given=is_operator):
            self._operators.note(self._operator)
        if is_operator:  # what its bodies run is not seen from outside
            args = tuple(map(self._looking_into, args))
        try:
            out = self._operators.run(func, args, kwargs)
        finally:
            self._operator = before
        if self._own is not None:
            self._own |= {identity(tensor): tensor for tensor in tensors((out,))}
        return out

    def _lacks_gradients(self, values: Any, *, given: bool) -> bool:
        """Return whether one of the tensors gets its gradients from compiled code alone."""
        with functions_disabled():
            found = [tensor for tensor in tensors(values) if tensor.requires_grad]
        if self._operator not in _DIFFERENTIATES:
            return bool(found)
        own = self._own or {}
        return not (given and self._own is None) and any(identity(tensor) not in own for tensor in found)

    def _looking_into(self, body: Any) -> Any:
        if not callable(body) or isinstance(body, torch.Tensor):
            return body

        @wraps(body, assigned=(), updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._operator:  # in a backward
                return body(*args, **kwargs)
            before, self._own = self._own, {identity(tensor): tensor for tensor in tensors(args)}
            try:
                with self:
                    out = body(*args, **kwargs)
            finally:
                self._own = before
            if not _is_flat(out) and self._lacks_gradients(args, given=False):
                self._operators.note(self._operator)
            return out

        return run


def _is_flat(out: Any) -> bool:
    """Return whether a body returns what the rules of operators for gradients take: compiled code makes it that."""
    return isinstance(out, tuple) and all(isinstance(value, torch.Tensor) for value in out)
