"""The call tree: a frame is one module, called from one chain of modules, with a running tally."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opcount.scope.call_shapes import CallShapes, SizesOfCall


Shapes = tuple[tuple["tuple[int, ...] | None", ...], tuple["tuple[int, ...] | None", ...]]
"""Shapes of the arguments and of the results of a call; None for a nested tensor."""


_ORDER = count()


class Row:
    """The running sum of one operator in one frame; the mutable twin of `opcount.records.Record`.

    Attributes:
        order: Creation order among the rows of all frames.
    """

    __slots__ = (
        "activations", "arith", "buffer_bytes", "bytes_read", "bytes_written", "calls", "causal", "macs", "order",
        "repeated", "shapes",
    )  # fmt: skip

    def __init__(self, shapes: Shapes = ((), ())) -> None:
        self.calls = self.macs = self.arith = self.activations = 0
        self.bytes_read = self.bytes_written = self.repeated = self.causal = self.buffer_bytes = 0
        self.shapes = shapes
        self.order = next(_ORDER)

    def absorb(self, other: Row) -> None:
        """Add another row's sums to this one's; the smaller order is kept."""
        self.order = min(self.order, other.order)
        self.add(other)

    def add(self, other: Row) -> None:
        """Add another row's sums to this one's."""
        self.calls += other.calls
        self.macs += other.macs
        self.arith += other.arith
        self.activations += other.activations
        self.bytes_read += other.bytes_read
        self.bytes_written += other.bytes_written
        self.repeated += other.repeated
        self.causal += other.causal
        self.buffer_bytes += other.buffer_bytes


class Frame:
    """One module under one chain of callers.

    Attributes:
        path: Path of the module; ``""`` for the root.
        parent: The caller's frame.
        children: Frames of the modules called from here, by path.
        rows: The tally, by ``(plan, phase, dtype)``.
        calls: Calls of the module from the parent.
        examples: The first call of the module; of the model itself, the first ones that differ.
        asks: Whether a call that comes may be one of these.
        known: Sizes of the last call of the model itself.
    """

    __slots__ = ("asks", "calls", "children", "examples", "known", "parent", "path", "rows")

    def __init__(self, path: str, parent: Frame | None = None) -> None:
        self.path = path
        self.parent = parent
        self.children: dict[str, Frame] = {}
        self.rows: dict[Any, Row] = {}
        self.calls = 0
        self.examples: tuple[CallShapes | SizesOfCall, ...] = ()
        self.known: CallShapes | SizesOfCall | None = None
        self.asks = True

    def child(self, path: str) -> Frame:
        """Return the frame of a module that is called from here, made at its first call."""
        frame = self.children.get(path)
        if frame is None:
            frame = self.children[path] = Frame(path, self)
        return frame

    def submodule(self, name: str) -> Frame:
        """Return the frame of the module's own submodule, called from here."""
        return self.child(f"{self.path}.{name}" if self.path else name)

    def stack(self) -> tuple[str, ...]:
        """Return the paths from the root to this frame."""
        paths = []
        frame: Frame | None = self
        while frame is not None:
            paths.append(frame.path)
            frame = frame.parent
        return tuple(reversed(paths))

    def walk(self) -> list[Frame]:
        """Return this frame and all below it, callers first."""
        found, pending = [], [self]
        while pending:
            frame = pending.pop()
            found.append(frame)
            if frame.children:
                pending.extend(reversed(frame.children.values()))
        return found

    def clear(self) -> None:
        """Clear the tally of this frame and its descendants; the frames stay, a backward may need them."""
        for frame in self.walk():
            frame.rows.clear()
            frame.calls = 0
            frame.examples, frame.known, frame.asks = (), None, True

    def absorb(self, other: Frame) -> None:
        """Add another tree's tally to this one's."""
        self.calls += other.calls
        self.examples = self.examples or other.examples
        for key, row in other.rows.items():
            self.rows.setdefault(key, Row(row.shapes)).absorb(row)
        for path, child in other.children.items():
            self.child(path).absorb(child)


class _Discard(dict[Any, Row]):
    """A tally that discards its rows."""

    def __missing__(self, _key: Any) -> Row:
        return Row()


class Sink(Frame):
    """A frame that discards the work inside a module that is priced as a whole."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("")
        self.rows = _Discard()
