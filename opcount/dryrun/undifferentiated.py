"""Refuses a backward through higher-order operators in a dry run.

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
from opcount.interceptor.calls import tensors
from opcount.interceptor.stack import dry_runs
from opcount.scope.engine import ignore, listen
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opcount.dryrun.refusals import Refusals

_CHANGED = {"map_impl"}
"""Operators whose results are of another type where they are differentiated and not compiled."""


class Undifferentiated:
    """Notes which higher-order operators of a dry run would be differentiated.

    Args:
        refusals: Refuse a backward after one.
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
        """Return a mode that looks for gradients in an operator that compiles itself."""
        return _Watch(self)

    def note(self, operator: str) -> None:
        """Take note of an operator that is given tensors that require gradients, or closes over them."""
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
        """Refuse a backward if it may need what nobody compiled."""
        if self._found:
            raise self._refusals.refuse(
                "a backward",
                "needs the gradients of a higher-order operator, whose body is not compiled for fake tensors",
            )


class _Backwards:
    """Is told of backwards."""

    def __init__(self, operators: Undifferentiated, dry_run: Any) -> None:
        self._operators = operators
        self._dry_run = dry_run

    def begin_backward(self, _roots: Any, _undo: Undo, *, create_graph: bool) -> None:
        del create_graph
        if any(mode is self._dry_run for mode in dry_runs()):
            self._operators.refuse()


class _Watch(TorchFunctionMode):
    """Looks for tensors that require gradients in one operator, and in what it runs."""

    def __init__(self, operators: Undifferentiated) -> None:
        super().__init__()
        self._operators = operators
        self._differentiates = torch.is_grad_enabled()
        self._operator = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._differentiates:
            return self._operators.run(func, args, kwargs)
        is_operator = isinstance(func, HigherOrderOperator)
        if is_operator:
            self._operator = func.name()  # type: ignore[attr-defined]
        with functions_disabled():
            found = any(tensor.requires_grad for tensor in tensors((*args, *kwargs.values())))
        if found:
            self._operators.note(self._operator)
        if is_operator:  # what its bodies run is not seen from outside
            return self._operators.run(func, tuple(map(self._looking_into, args)), kwargs)
        return func(*args, **kwargs)

    def _looking_into(self, body: Any) -> Any:
        if not callable(body) or isinstance(body, torch.Tensor):
            return body

        @wraps(body, assigned=(), updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return body(*args, **kwargs)

        return run
