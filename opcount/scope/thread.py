"""The scope of one thread: its stack of running modules, its phase, and its place in autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from opcount.scope.frame import Frame, Sink
from opcount.scope.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARD = "forward"
BACKWARD = "backward"
RECOMPUTE = "recompute"
OPTIMIZER = "optimizer"

_graph_task: Callable[[], int] = torch._C._current_graph_task_id
_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
_running_node: Callable[[], Any] = torch._C._current_autograd_node

_LEAF = 1 << 63
"""From here on sequence numbers are those of AccumulateGrad nodes, which belong to a leaf and not to a moment."""

NO_TASK = -1
"""The graph task of code that does not run inside a backward."""


class Entry(NamedTuple):
    """What was running before a push, to be restored by the pop."""

    owner: object
    frame: Frame
    task: int
    phase: str
    muted: bool


class Scope:
    """One thread's stack of modules.

    Attributes:
        top: The frame that forward operators are charged to.
        phase: Of forward operators.
        settled: False from a backward operator on until a forward operator is located again.
        observing: Whether a mode on this thread charges operators to this scope.
        unattributed: Operator calls charged to the root because their module is unknown, by reason.
    """

    __slots__ = (
        "_base_phase", "_others", "_owner_of", "_seen", "_sink", "_stack",
        "frame", "muted", "observing", "phase", "root", "settled", "task", "timeline", "top", "unattributed",
    )  # fmt: skip

    def __init__(
        self, owner_of: Callable[[Any], str], others: Callable[[Scope], list[Scope]], phase: str = FORWARD
    ) -> None:
        self.root = Frame("")
        self._sink = Sink()
        self._owner_of = owner_of
        self._others = others
        self._base_phase = phase
        self.timeline = Timeline()
        self.unattributed: dict[str, int] = {}
        self._seen = 0
        self.observing = False
        self._rest()

    def _rest(self) -> None:
        self._stack: list[Entry] = []
        self.frame = self.top = self.root
        self.task = NO_TASK
        self.phase = self._base_phase
        self.muted = False
        self.settled = True

    def open(self) -> None:
        """Start to observe: nodes created from now on belong to the root."""
        self._rest()
        self.observing = True
        self._mark(self.root)

    def close(self) -> None:
        """Stop to observe."""
        self._rest()
        if self.observing:
            self.observing = False
            self._mark(None)

    @property
    def idle(self) -> bool:
        """Whether no module is running."""
        return not self._stack

    def push(self, owner: object, frame: Frame, *, phase: str | None = None, mute: bool = False) -> None:
        """Enter a module (or an optimizer)."""
        self._stack.append(Entry(owner, self.frame, self.task, self.phase, self.muted))
        self.frame = frame
        self.task = _graph_task()
        self.phase = self._base_phase if phase is None else phase
        self.muted = mute or self.muted
        self.top = self._sink if self.muted else frame
        self._mark(frame)

    def pop(self, owner: object) -> None:
        """Leave a module, and whatever an exception left above it; nothing if it was never entered."""
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index].owner is owner:
                break
        else:
            return
        _, self.frame, self.task, self.phase, self.muted = stack[index]
        del stack[index:]
        self.top = self._sink if self.muted else self.frame
        self._mark(self.frame)

    def set_phase(self, name: str) -> None:
        """Name the phase of the forward operators from now on."""
        self._base_phase = self.phase = name

    def _mark(self, frame: Frame | None) -> None:
        self._seen = _sequence_number()
        self.timeline.mark(self._seen, frame)

    def locate(self) -> tuple[Frame, str]:
        """Return the frame and the phase of the operator that runs now."""
        task = _graph_task()
        if task == NO_TASK:
            self.settled = True
            return self.top, self.phase
        if self.task == task:  # the top module was entered inside this backward, which thus runs forward again
            return self.top, RECOMPUTE
        node = _running_node()
        frame = self._frame_of(node)
        if torch.is_grad_enabled():
            self._claim(node, frame)
        self.settled = False
        return frame, BACKWARD

    def _claim(self, node: Any, frame: Frame) -> None:
        """Give the nodes that a backward operator created (``create_graph``) to that operator's frame.

        At the first operator of a backward, the nodes up to the running one are forward's own.
        """
        number = _sequence_number()
        start = self._seen
        if self.settled and node is not None and node._sequence_nr() < _LEAF:
            start = max(start, node._sequence_nr() + 1)
        if number > start:
            self.timeline.mark(start, frame)
            self.timeline.mark(number, self.frame)
        self._seen = number

    def _frame_of(self, node: Any) -> Frame:
        if node is None:
            return self.root
        number = node._sequence_nr()
        if number >= _LEAF:
            path = self._owner_of(getattr(node, "variable", None))
            return self.root.child(path) if path else self.root
        frames = [f for f in (self.timeline.find(number), *(s.timeline.find(number) for s in self._others(self))) if f]
        if len(frames) == 1:
            return frames[0]
        self._unknown("forward was not observed" if not frames else "forward ran in several threads at once")
        return self.root

    def _unknown(self, reason: str) -> None:
        self.unattributed[reason] = self.unattributed.get(reason, 0) + 1
