"""The scope of one thread: its stack of running modules, its phase, and its place in autograd."""

from __future__ import annotations

from functools import partial
from sys import _getframe
from typing import TYPE_CHECKING, Any, Protocol

import torch

from opcount._torch.autograd import (
    graph_task,
    node_of_checkpoint,
    running_node,
    saved_tensor_hooks,
    sequence_number,
    sequence_number_of,
)
from opcount.scope.engine import RUN_BACKWARD
from opcount.scope.frame import Frame, Sink
from opcount.scope.frame_guard import FrameGuard
from opcount.scope.graphs import LEAF
from opcount.scope.recompute import Rerun, checkpoint_of, find_rerun
from opcount.scope.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

FORWARD = "forward"
BACKWARD = "backward"
RECOMPUTE = "recompute"
OPTIMIZER = "optimizer"

_is_grad_enabled: Callable[[], bool] = torch.is_grad_enabled

NO_TASK = -1
"""The graph task of code that does not run inside a backward."""

_ABANDONED = -2
"""Sentinel task id: the tracked frame ended without its exit hook (KeyboardInterrupt, for example)."""


_CALLER = 2
"""From `Scope.locate` up to the Python frame that called the operator, at least: past one method of the mode."""

_HOOKED = 2
"""From `Scope.push` up to the Python frame that called the hook that called it."""


class Shared(Protocol):
    """Interface of what the scopes of several threads share."""

    phase: str
    single: bool

    @property
    def checkpoints(self) -> MutableMapping[object, Frame]:
        """The frames that called checkpoints."""

    def owner_of(self, variable: object) -> str:
        """Return the path of the module that owns a parameter."""

    def path_of_all(self, modules: Iterable[object], parameters: Iterable[object]) -> str | None:
        """Return the path of the innermost module that has all of these inside; None if nothing is known of them."""

    def path_of_whole(self, path: str) -> str:
        """Return the path of the whole that a module is part of."""

    def others(self, scope: Scope) -> Iterable[Scope]:
        """Return the scopes of the other threads."""


Entry = tuple[object, Frame, int, bool, bool, "FrameGuard | None"]
"""The owner, what was on top before it was pushed (frame, graph task, whether an optimizer, whether muted), its guard.

A plain tuple: it is made at every call of a module.
"""


class Scope:
    """One thread's stack of modules.

    Attributes:
        top: The frame that forward operators are charged to.
        phase: Of forward operators.
        first: The owner of the outermost entry.
        optimizing: Whether an optimizer is on top.
        settled: False from a backward operator on until a forward operator is located again.
        observing: Whether a mode on this thread charges operators to this scope.
        creates_graph: Whether the innermost backward can be differentiated again.
        returned: Called with a module's result before it is popped; or None.
        unattributed: Operator calls charged to the root because their module is unknown, by reason.
    """

    __slots__ = (
        "_at_rest", "_seen", "_shared", "_sink", "_stack",
        "creates_graph", "first", "frame", "muted", "observing", "optimizing", "phase", "returned", "root", "settled",
        "task", "timeline", "top", "unattributed",
    )  # fmt: skip

    def __init__(self, shared: Shared) -> None:
        self.root = Frame("")
        self._sink = Sink()
        self._shared = shared
        self._at_rest: Frame | None = None
        self.timeline = Timeline()
        self.unattributed: dict[str, int] = {}
        self._seen = 0
        self.observing = False
        self.creates_graph = False
        self.returned: Callable[[Any], None] | None = None
        self._rest()

    def _rest(self) -> None:
        self._stack: list[Entry] = []
        self.first: object = None
        self.frame = self.top = self.root
        self.task = NO_TASK
        self.phase = self._shared.phase
        self.optimizing = self.muted = False
        self.settled = True

    def open(self, *, forward: bool = True) -> None:
        """Start observing.

        Args:
            forward: Nodes created from now on belong to the root. False: only those of modules are known.
        """
        self._rest()
        self.timeline.repair()
        self.observing = True
        self._at_rest = self.root if forward else None
        self._mark(self._at_rest)

    def close(self) -> None:
        """Stop observing."""
        self._rest()
        if self.observing:
            self._mark(None)
            self.observing = False

    @property
    def idle(self) -> bool:
        """True if no module is running."""
        return not self._stack

    def runs(self, owner: object) -> bool:
        """Return whether a module is the innermost that runs."""
        return bool(self._stack) and self._stack[-1][0] is owner

    def push(
        self,
        owner: object,
        frame: Frame,
        task: int,
        caller: Frame,
        mute: bool = False,  # noqa: FBT001, FBT002  (passing by name takes time)
        optimizing: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Enter a module, or an optimizer.

        Args:
            owner: Identifies the entry.
            frame: Where operators are charged.
            task: The running graph task.
            caller: Whose frame calls it.
            mute: Whether it is priced as a whole.
            optimizing: Whether it is an optimizer.
        """
        stack = self._stack
        guard = None
        if optimizing or not stack:
            guard = FrameGuard(_HOOKED, self._abandon)
            if not stack:
                self.first = owner
        hooks = saved_tensor_hooks(False)  # noqa: FBT003
        if hooks is not None:
            self._note_checkpoint(hooks[0], caller)
        stack.append((owner, self.frame, self.task, self.optimizing, self.muted, guard))
        self.frame = self.top = frame
        self.task = task
        if optimizing or self.optimizing:
            self.optimizing = optimizing
            self.phase = OPTIMIZER if optimizing else self._shared.phase
        if mute or self.muted:
            self.muted = True
            self.top = self._sink
        self._seen = number = sequence_number()
        timeline = self.timeline
        if number == timeline.last:  # no node was created: most calls without gradients
            timeline.frames[-1] = frame
        else:
            timeline.mark(number, frame)

    def pop(self, owner: object) -> None:
        """Leave a module, and whatever an exception left above it; nothing if it was never entered."""
        stack = self._stack
        if (not stack or stack[-1][0] is not owner) and not self._uncover(owner):
            return
        was_optimizing = self.optimizing
        _, below, self.task, optimizing, muted, _ = stack.pop()
        self.frame = below
        self.top = self._sink if muted else below
        self.muted = muted
        if was_optimizing or optimizing:
            self.optimizing = optimizing
            self.phase = OPTIMIZER if optimizing else self._shared.phase
        frame: Frame | None = below
        if not stack:
            self.first = None
            frame = self._at_rest
        self._seen = number = sequence_number()
        timeline = self.timeline
        if number == timeline.last:
            timeline.frames[-1] = frame
        else:
            timeline.mark(number, frame)

    def _uncover(self, owner: object) -> bool:
        """Drop the entries above an owner's innermost one; False if it has none."""
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index][0] is owner:
                del stack[index + 1 :]
                return True
        return False

    def _cut(self, index: int) -> None:
        """Pop all entries from an index on."""
        del self._stack[index + 1 :]
        self.pop(self._stack[index][0])

    def _abandon(self, _token: object) -> None:
        """Mark that the Python frame of an entry has ended although the entry was not popped."""
        self.settled = False
        self.task = _ABANDONED

    def tidy(self) -> None:
        """Pop the entries whose code is no longer running."""
        self.settled = True
        for index, (*_, guard) in enumerate(self._stack):
            if guard is not None and not guard.is_running():
                self._cut(index)
                return

    def caller(self, task: int) -> Frame:
        """Return the frame that calls a module, if it may differ from the one on top."""
        if self.task == _ABANDONED or task == NO_TASK:
            self.tidy()
        if task in {NO_TASK, self.task}:
            return self.frame
        rerun = find_rerun()
        if rerun is None and (self.creates_graph or not torch.is_grad_enabled()):
            return self.frame
        return self._frame_of_rerun(rerun, running_node())

    def set_phase(self, name: str) -> None:
        """Name the phase of the forward operators from now on."""
        self.phase = name

    def _mark(self, frame: Frame | None) -> None:
        self._seen = sequence_number()
        self.timeline.mark(self._seen, frame)

    def begin_backward(self, *, create_graph: bool) -> Callable[[], None]:
        """Prepare for a backward; return what ends it."""
        end = partial(self._end_backward, len(self._stack), self.creates_graph)
        self.creates_graph = create_graph
        self._seen = sequence_number()
        return end

    def _end_backward(self, height: int, creates_graph: bool) -> None:  # noqa: FBT001  (bound right above)
        self.creates_graph = creates_graph
        if len(self._stack) > height:  # an exception left modules that ran again
            self._cut(height)
        if self._seen != sequence_number():
            self._mark(self.frame if self._stack else self._at_rest)

    def locate(self) -> tuple[Frame, str]:
        """Return the frame and the phase of the operator that runs now."""
        if self.task == _ABANDONED:
            self.tidy()
        task = graph_task()
        if task == NO_TASK:
            self.settled = True
            return self.top, self.phase
        if self.task == task:  # the top module was entered inside this backward, which thus runs forward again
            return self.top, OPTIMIZER if self.optimizing else RECOMPUTE
        self.settled = False
        node = running_node()
        try:
            rerun = None if _getframe(_CALLER).f_code is RUN_BACKWARD else find_rerun(_CALLER + 1)
        except ValueError:  # called by a thread of C++
            rerun = None
        if _is_grad_enabled():
            return self._locate_creator(node, rerun)
        if rerun is None:
            return self._frame_of(node), BACKWARD
        return self._frame_of_rerun(rerun, node), RECOMPUTE

    def _locate_creator(self, node: Any, rerun: Rerun | None) -> tuple[Frame, str]:
        """Return the frame and the phase of an operator of a backward that may create nodes of its own."""
        if rerun is not None or (node is not None and not self.creates_graph):
            frame, phase = self._frame_of_rerun(rerun, node), RECOMPUTE
        else:
            frame, phase = self._frame_of(node), BACKWARD
        self._claim(frame)
        return frame, phase

    def _claim(self, frame: Frame) -> None:
        """Give the nodes created since the last look to the frame of the operator that created them."""
        number = sequence_number()
        if number > self._seen:
            self.timeline.mark(self._seen, frame)
            self.timeline.mark(number, self.frame)
        self._seen = number

    def _note_checkpoint(self, pack_hook: object, caller: Frame) -> None:
        """Remember which frame called a checkpoint that is now running its first module."""
        checkpoint = checkpoint_of(pack_hook)
        if checkpoint is not None and checkpoint not in self._shared.checkpoints:
            self._shared.checkpoints[checkpoint] = caller

    def _frame_of_rerun(self, rerun: Rerun | None, node: Any) -> Frame:
        """Return the frame that called a checkpoint.

        The running node of a non-reentrant one is any of those that its function made: in that very frame, unless
        the function ran modules, and then their first call has told. That of a reentrant one is its own.
        """
        known = None
        if rerun is not None and rerun.checkpoint is not None:
            known = self._shared.checkpoints.get(rerun.checkpoint)
            node = node_of_checkpoint(rerun.checkpoint) or node
        return known or self._frame_of(node)

    def _frame_of(self, node: Any) -> Frame:
        if node is None:
            return self.root
        number, timeline = sequence_number_of(node), self.timeline
        if timeline.below <= number < timeline.above and self._shared.single:
            return timeline.found
        if number >= LEAF:
            path = self._shared.owner_of(getattr(node, "variable", None))
            return self.root.child(path) if path else self.root
        own = timeline.find(number) if number < sequence_number() else None
        if own is not None and self._shared.single:
            return own
        found = (own, *(other.timeline.find(number) for other in self._shared.others(self)))
        frames = {frame.stack(): frame for frame in reversed(found) if frame is not None}
        if len(frames) == 1:
            return next(iter(frames.values()))
        self.note("forward ran in several threads at once" if frames else "forward was not observed")
        return self.root

    def frame_of_owner(self, frame: Frame, modules: Iterable[object], parameters: Iterable[object]) -> Frame | None:
        """Return the frame of the innermost module that has all of these inside; None if nothing is known of them.

        Args:
            frame: Where an operator runs; its callers are asked first.
            modules: Some modules.
            parameters: Some parameters.
        """
        path = None if self.muted else self._shared.path_of_all(modules, parameters)
        return None if path is None else self._frame_at(path, frame)

    def frame_of_reducer(self, frame: Frame) -> Frame | None:
        """Return the frame of what holds the parameter whose gradient is ready; None where none is."""
        node = running_node()
        if node is None or sequence_number_of(node) < LEAF:
            return None
        return self._frame_at(self._shared.path_of_whole(frame.path), frame)

    def _frame_at(self, path: str, frame: Frame) -> Frame:
        """Return the frame of a module: one of the callers of another frame, if it is among them."""
        caller: Frame | None = frame
        while caller is not None:
            if caller.path == path:
                return caller
            caller = caller.parent
        return self.root.child(path) if path else self.root

    def note(self, reason: str) -> None:
        """Count an operator call whose module is unknown."""
        self.unattributed[reason] = self.unattributed.get(reason, 0) + 1
