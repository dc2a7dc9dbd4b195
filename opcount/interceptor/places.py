"""Places where operators run, as modes and handlers see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opcount.scope import Frame

Located = tuple["Frame", str]
"""Frame and phase of an operator."""


class Places(Protocol):
    """Places where operators run: the scope of a thread, or an object that stands for one.

    Attributes:
        settled: Whether code outside of a backward runs in the top frame.
        top: The frame of the running module.
        phase: Of forward operators.
        frame: Of the running module.
        muted: Whether a module around it is priced as a whole.
        returned: Called with what a module returns, while somebody asks who wrote what; else None.
    """

    settled: bool
    top: Frame
    phase: str
    frame: Frame
    muted: bool
    returned: Callable[[Any], None] | None

    def locate(self) -> tuple[Frame, str]:
        """Return the frame and the phase of the operator that runs now."""

    def frame_of_owner(self, frame: Frame, modules: Iterable[object], parameters: Iterable[object]) -> Frame | None:
        """Return the frame of the innermost module that has all of these inside; None if nothing is known of them."""

    def frame_of_reducer(self, frame: Frame) -> Frame | None:
        """Return the frame of what holds the parameter whose gradient is ready; None where none is."""
