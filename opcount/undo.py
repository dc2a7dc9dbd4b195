"""Undo steps that survive an interrupt (KeyboardInterrupt, a signal handler's exception) between any two lines.

``contextlib.ExitStack`` loses an undo step when it is interrupted before it has stored it, and the remaining steps when
it is interrupted while leaving. So here

* an undo step is registered before the change is made; it is idempotent: it compares the state with the earlier one;
* it stays registered until it has run to its end; steps that were cut short run a second time;
* if Python never calls ``__exit__``, the steps run when the ``with`` statement drops its reference to it.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")

_EXIT = "_newest_exit"
"""Attribute that holds a weak reference to the newest bound ``__exit__`` of a context manager."""


class _Exit:
    """Descriptor for ``__exit__`` that stores a weak reference to each bound method on the instance."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, _owner: type | None = None) -> Any:
        if instance is None:
            return self._function
        bound = partial(self._function, instance)
        setattr(instance, _EXIT, weakref.ref(bound))
        return bound


if TYPE_CHECKING:

    def noted(function: F) -> F:
        """Decorate ``__exit__`` so that `when_dropped` can observe the reference that a ``with`` statement holds."""
        return function

else:
    noted = _Exit


def when_dropped(manager: object, close: Callable[[], object]) -> object:
    """Call ``close`` if the ``with`` statement that enters a context manager ends without calling its ``__exit__``.

    The statement looks up ``__exit__`` before it enters, holds it while the block runs, and drops it however the block
    ends, also after an interrupt between the last line of the block and the first line of ``__exit__``. If the manager
    is entered without a ``with`` statement, nothing is called.

    Args:
        manager: Its ``__exit__`` is `noted`.
        close: Idempotent.

    Returns:
        An object to keep for as long as ``close`` is to be called.
    """
    newest = getattr(manager, _EXIT, None)
    bound = None if newest is None else newest()
    return None if bound is None else weakref.ref(bound, lambda _: close())


class Undo:
    """A stack of idempotent undo steps, the last one first; true while there are any.

    In a ``with`` statement the steps run at its end.

    Attributes:
        error: The exception that ends the block, while the steps run.
    """

    __slots__ = ("_guard", _EXIT, "_steps", "error")

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []
        self._guard: object = None
        self.error: BaseException | None = None

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __enter__(self) -> Self:
        self._guard = when_dropped(self, self.run)
        return self

    @noted
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(error)
        self._guard = None

    def add(self, step: Callable[[], object]) -> None:
        """Register a step, before the change that it undoes."""
        self._steps.append(step)

    def add_last(self, step: Callable[[], object]) -> None:
        """Register a step that runs after all the others."""
        self._steps.insert(0, step)

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context manager that ``contextlib.contextmanager`` made."""
        entered: list[bool] = []
        self.add(partial(self._leave, manager, entered))
        value = manager.__enter__()
        entered.append(True)
        return value

    def run(self, error: BaseException | None = None) -> None:
        """Run all steps; a step that raises runs once more, and the others follow.

        Args:
            error: The exception that ends the block.

        Raises:
            Exception: The exception of the last step that failed twice, after all others have run.
        """
        try:
            self.error = error
            steps = self._steps
            while steps:
                steps[-1]()
                steps.pop()
        finally:
            self._run_rest()
            self.error = None

    def _run_rest(self) -> None:
        failure = None
        while self._steps:
            try:
                self._steps[-1]()
            except Exception as error:  # noqa: BLE001  (raised below)
                failure = error
            self._steps.pop()
        if failure is not None:
            raise failure

    def _leave(self, manager: AbstractContextManager[object], entered: list[bool]) -> None:
        """Leave a generator's context manager, if it is entered; without an effect the second time."""
        if entered:
            error = self.error
            manager.__exit__(*((None, None, None) if error is None else (type(error), error, error.__traceback__)))
        else:
            manager.gen.close()  # type: ignore[attr-defined]  # begun or not: what it has done is undone
