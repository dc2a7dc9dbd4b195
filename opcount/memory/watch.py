"""The watch over the memory of one count: begins a tracker with each block, and labels what it holds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opcount._torch.autograd import NO_TASK, graph_task
from opcount._torch.tensors import KEEPS_STORAGE_OBJECTS
from opcount.errors import CounterStateError
from opcount.live_memory import merge_memory
from opcount.memory.allocator import Allocator
from opcount.memory.labels import (
    hold_weights,
    label_gradients,
    label_outputs,
    label_saved,
    label_state,
    label_weights,
)
from opcount.memory.summary import summary_of
from opcount.memory.till import MemoryTill
from opcount.memory.tracker import Tracker
from opcount.scope.engine import ignore, listen
from opcount.scope.global_hooks import after_module, after_step, before_step, remove
from opcount.scope.graphs import leaves_of

if TYPE_CHECKING:
    from torch import nn

    from opcount.devices import Device
    from opcount.live_memory import LiveMemory
    from opcount.scope import Scopes
    from opcount.undo import Undo

_RAISED = object()
"""Sentinel: the module raised and returned nothing."""

LOG = "log"
"""``OpCounter(memory=LOG)``: keep the order of allocations, too."""

ALLOCATOR = "allocator"
"""``OpCounter(memory=ALLOCATOR)``: ask the allocator, too."""


def required(memory: LiveMemory | None) -> LiveMemory:
    """Return live memory that somebody reads.

    Raises:
        CounterStateError: It was not tracked.
    """
    if memory is None:
        raise CounterStateError(
            "OpCounter.memory: expected a counter that tracks memory, got one that does not. "
            "Make it as `OpCounter(model, memory=True)`."
        )
    return memory


class MemoryWatch:
    """Live memory of one count.

    Args:
        asked: False: it is not asked for; True: it is; `LOG`: with the order of allocations; `ALLOCATOR`: with the peak
            by the allocator's own account.

    Attributes:
        till: Prices operators, and tells the tracker of them; None: nobody is told.

    Raises:
        CounterStateError: This PyTorch has no storages that can be watched.
        ValueError: Something else is asked for.
    """

    def __init__(self, asked: bool | str) -> None:  # noqa: FBT001  (the value that the user has given)
        if asked not in (False, True, LOG, ALLOCATOR):
            raise ValueError(
                f"OpCounter: expected memory=True, False, {LOG!r} or {ALLOCATOR!r}, got {asked!r} of type "
                f"{type(asked).__name__}. Pass one of these."
            )
        if asked and not KEEPS_STORAGE_OBJECTS:
            raise CounterStateError(
                "OpCounter: expected PyTorch 2.2 or newer for memory=True, got an older one, whose storages cannot be "
                "watched. Install a newer PyTorch, or leave memory out."
            )
        self._asked = asked
        self._allocator: Allocator | None = None
        self.till = MemoryTill() if asked else None
        self._earlier: LiveMemory | None = None
        self._scopes: Scopes | None = None

    def begin(self, scopes: Scopes, undo: Undo, *, dry: bool, device: Device | None = None) -> None:
        """Track storages until the steps have run; call it when the model holds the tensors that it runs on.

        Args:
            scopes: Know which module runs.
            undo: The steps.
            dry: Whether fake tensors stand for all.
            device: The one whose operators a dry run chooses; None: the CPU.
        """
        if self.till is None:
            return
        undo.add(self._end)
        self._allocator = None
        if self._asked == ALLOCATOR:
            if dry:
                raise CounterStateError(
                    'OpCounter: expected a real run for memory="allocator", got a dry one, which allocates nothing. '
                    "Leave dry_run out, or pass memory=True."
                )
            self._allocator = Allocator()
        tracker = Tracker(dry=dry, logs=self._asked in (LOG, ALLOCATOR), device="" if device is None else device.name)
        hold_weights(tracker, scopes.names)
        self._scopes = scopes
        self.till.tracker = tracker
        undo.add(partial(remove, self._left, self._begin_step, self._end_step))
        after_module(self._left)
        before_step(self._begin_step)
        after_step(self._end_step)
        undo.add(partial(ignore, self))
        listen(self)
        if self._allocator is not None:
            self._allocator.begin(scopes.names.model, undo)

    def _end(self) -> None:
        self._earlier = self.memory()
        self._scopes = None
        if self.till is not None:
            self.till.tracker = None

    @property
    def _tracker(self) -> Tracker | None:
        return None if self.till is None else self.till.tracker

    def memory(self) -> LiveMemory | None:
        """Return the live memory so far; None if nothing was tracked."""
        tracker, scopes = self._tracker, self._scopes
        if tracker is None or scopes is None:
            return self._earlier
        tracker.settle()
        label_weights(tracker, scopes.names)
        memory = summary_of(tracker, self._allocator)
        return merge_memory(self._earlier, memory if self._asked == LOG else replace(memory, log=None))

    def clear(self) -> None:
        """Forget the peak: what is alive now is the start."""
        self._earlier = None
        tracker = self._tracker
        if tracker is not None:
            tracker.settle()
            for ledger in list(tracker.ledgers.values()):
                ledger.restart()

    def begin_backward(self, roots: Any, undo: Undo, *, create_graph: bool) -> None:
        """Label what the backward needs, and afterwards what it has set."""
        del create_graph
        tracker, scopes = self._tracker, self._scopes
        if tracker is None or scopes is None:
            return
        tracker.settle()
        if graph_task() == NO_TASK:
            for leaf in leaves_of(roots):
                tracker.add_leaf(leaf)
            label_weights(tracker, scopes.names)
            label_saved(tracker, roots)
        undo.add(tracker.settle)
        undo.add(partial(label_gradients, tracker, scopes.names))

    def _left(self, module: nn.Module, _args: Any, _kwargs: Any, out: Any = _RAISED) -> None:
        """Label what the model has returned; without a model, what an outermost module has."""
        tracker, scopes = self._tracker, self._scopes
        if tracker is None or scopes is None or out is _RAISED:
            return
        model = scopes.names.model
        if module is model if model is not None else scopes.running_path() is None:
            label_outputs(tracker, out)

    def _begin_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._label_state(optimizer, before=True)

    def _end_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._label_state(optimizer, before=False)
        if self._tracker is not None:
            self._tracker.end_step()

    def _label_state(self, optimizer: Any, *, before: bool) -> None:
        tracker, scopes = self._tracker, self._scopes
        if tracker is not None and scopes is not None:
            tracker.settle()
            label_state(tracker, scopes.names, optimizer, before=before)
