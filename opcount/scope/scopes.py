"""Module and optimizer hooks that update each thread's scope: process-wide, nothing is stored on the modules."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from torch.nn import Parameter

from opcount._torch.autograd import graph_task
from opcount._torch.hooks import unseen_by_dynamo
from opcount.identity import identity
from opcount.scope.call_shapes import call_of, shapes_of
from opcount.scope.engine import ignore, listen
from opcount.scope.frame_guard import FrameGuard
from opcount.scope.global_hooks import after_module, after_step, before_module, before_step, is_registered, remove
from opcount.scope.graphs import Maker, leaves_of, maker_of
from opcount.scope.module_names import ModuleNames
from opcount.scope.thread import NO_TASK, RECOMPUTE, Scope
from opcount.scope.thread_scopes import ThreadScopes
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import nn

    from opcount.scope.frame import Frame


_RAISED = object()
"""Sentinel: the module raised and returned nothing."""

_EXAMPLES = 4
"""Calls of the model, with other inputs each, that are described."""

_COUNTING: dict[int, set[object]] = {}
"""Open counters by thread id. A thread with a counter of its own is not adopted by another thread's counter."""


class Scopes:
    """The scopes of all threads that run modules while a counter is entered.

    Args:
        model: Gives modules their paths; None: all are named by their class.
        adopt: Called on a thread that runs one of our modules without our mode; adds its undo steps.
        priced_modules: Module classes that are priced as a whole.
        charge_module: ``(module, frame, phase, out, args, kwargs)`` of such a module, after its forward.
        charge_script: ``(module, frame, phase, out)`` of a ScriptModule, after its forward.
        names: Gives modules other paths than those in the model.

    Attributes:
        names: The paths of modules.
        threads: The scope of each thread.
        optimizers: The classes of the optimizers that made a step, in their order.
    """

    def __init__(
        self,
        model: nn.Module | None,
        adopt: Callable[[Scope, Undo], None],
        priced_modules: Collection[object],
        charge_module: Callable[..., None],
        charge_script: Callable[..., None],
        names: ModuleNames | None = None,
    ) -> None:
        self.names = ModuleNames(model) if names is None else names
        self._paths = self.names.paths
        self._wrappers = self.names.wrappers
        self._scripts = self.names.scripts
        self.threads = ThreadScopes(self.names)
        self.optimizers: dict[str, None] = {}
        self._scope_of = self.threads.by_ident
        self._adopt = adopt
        self._adopted: dict[int, Undo] = {}
        self._stepping: dict[int, tuple[Undo, FrameGuard]] = {}
        self._priced = priced_modules
        self._charge_module = charge_module
        self._charge_script = charge_script

    def __del__(self) -> None:
        threads = getattr(self, "threads", None)
        if threads is not None:
            threads.dismantle()

    def open(self, undo: Undo) -> Scope:
        """Start observing this thread, and register the hooks."""
        self.hold_thread(undo)
        scope = self.threads.join()
        undo.add(scope.close)
        scope.open()
        undo.add(self._unhook)
        after_module(self._leave)
        before_module(self._enter)
        before_step(self._enter_optimizer)
        after_step(self._leave_optimizer)
        undo.add(partial(ignore, self))
        listen(self)
        return scope

    def hold_thread(self, undo: Undo) -> None:
        """Keep other counters from adopting this thread, whether or not this one counts on it."""
        home = get_ident()
        undo.add(partial(_free_thread, home, self))
        _COUNTING.setdefault(home, set()).add(self)

    def clear(self) -> None:
        """Clear the tally of all threads."""
        self.threads.clear()
        self.optimizers.clear()

    def _unhook(self) -> None:
        """Remove the hooks; the hook after modules stays until no adopted thread runs a module."""
        remove(self._enter, self._enter_optimizer, self._leave_optimizer)
        self._release_leave()

    def _release_leave(self) -> None:
        if not self._adopted and not is_registered(self._enter):
            remove(self._leave)

    def running_path(self) -> str | None:
        """Return the path of the module that runs on this thread; None outside of all modules, also in an optimizer."""
        scope = self.threads.by_ident.get(get_ident())
        return None if scope is None or scope.idle or scope.optimizing else scope.frame.path

    def _enter(self, module: nn.Module, _args: object) -> None:
        scope = self._scope_of.get(get_ident())
        if scope is None or not scope.observing:
            scope = self._join(module)
            if scope is None:
                return
        task = graph_task()
        if task == scope.task and module is not scope.first and not scope.optimizing:
            caller = scope.frame
        else:
            caller = scope.caller(task)
        key = identity(module)
        path = self._paths.get(key)
        if path is None:
            path = self.names.path_of_new(module, caller.path)
        frame = caller.children.get(path)
        if frame is None:
            frame = caller if path == caller.path else caller.child(path)
        if key not in self._wrappers:
            frame.calls += 1
        if self._priced and type(module) in self._priced:
            scope.push(module, frame, task, caller, True)  # noqa: FBT003
        else:
            scope.push(module, frame, task, caller)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, out: Any = _RAISED) -> None:
        """Pop the module; after an exception PyTorch passes no ``out``."""
        ident = get_ident()
        scope = self._scope_of.get(ident)
        if scope is None or not scope.observing:
            return
        if scope.returned is not None and out is not _RAISED:
            scope.returned(out)
        frame = scope.frame
        if frame.asks and out is not _RAISED and scope.runs(module):
            self._describe(module, frame, args, kwargs, out)
        if self._priced and out is not _RAISED and type(module) in self._priced:
            phase = scope.phase if scope.task == NO_TASK else RECOMPUTE
            scope.pop(module)
            if not scope.muted:
                self._charge_module(module, frame, phase, out, args, kwargs)
        else:
            if self._scripts and identity(module) in self._scripts and out is not _RAISED and not scope.muted:
                self._charge_script(module, scope.frame, scope.phase if scope.task == NO_TASK else RECOMPUTE, out)
            scope.pop(module)
        if self._adopted and ident in self._adopted and scope.idle:
            self._adopted[ident].run()
            del self._adopted[ident]
            self._release_leave()

    def _describe(self, module: nn.Module, frame: Frame, args: Any, kwargs: Any, out: Any) -> None:
        """Note the shapes of a first call, or of the first calls of the model itself that differ."""
        call, parent = shapes_of(args, kwargs, out), frame.parent
        if parent is not None and (parent.parent is not None or self.names.model is not None):
            frame.examples, frame.asks = (call,), False
            return
        try:
            hash(call)  # a symbolic size has no hash, and to compare it would leave a guard
        except TypeError:
            frame.known = None
        else:
            if call == frame.known:
                return
            frame.known = call
        shapes = call.described()[1:3]
        if all(known[1:3] != shapes for known in frame.examples):
            frame.examples = (*frame.examples, call_of(module, args, kwargs, out))
        frame.asks = parent is None and len(frame.examples) < _EXAMPLES

    def _join(self, module: nn.Module) -> Scope | None:
        """Adopt a thread that runs a module of ours, unless it counts for itself."""
        ident = get_ident()
        ours = self.names.model is None or self.names.is_known(module)
        if not ours or ident in _COUNTING or ident in self._adopted:
            return None
        scope = self.threads.join()
        undo = self._adopted[ident] = Undo()
        undo.add(scope.close)
        scope.open()
        self._adopt(scope, undo)
        return scope

    def begin_backward(self, roots: Any, undo: Undo, *, create_graph: bool) -> None:
        """Prepare for a backward on this thread; adopt the thread if the graph is ours."""
        ident = get_ident()
        scope = self.threads.by_ident.get(ident)
        if scope is None or not scope.observing:
            maker = self._maker_of(roots, scope)
            if maker is Maker.ITSELF or (ident in _COUNTING and maker is not Maker.OBSERVED):
                return
            scope = self._observe_briefly(undo)
            if maker is Maker.EITHER:
                scope.note("backward on another thread, of a graph that may be that thread's own")
        undo.add(scope.begin_backward(create_graph=create_graph))

    def _maker_of(self, roots: Any, scope: Scope | None) -> Maker:
        """Return who made a graph; one that reaches a parameter of the model is ours, whoever made it."""
        counting = get_ident() in _COUNTING
        if self.names.model is None and not counting:
            return Maker.OBSERVED
        others = [other.timeline for other in self.threads.others(scope)]
        maker = maker_of(roots, None if scope is None else scope.timeline, others)
        if maker in {Maker.ITSELF, Maker.EITHER} and not counting:
            leaves = list(leaves_of(roots))
            if self.names.owns_any(leaves):
                return Maker.OBSERVED
            if any(isinstance(leaf, Parameter) for leaf in leaves):
                return Maker.ITSELF  # it trains another model
        return maker

    def _observe_briefly(self, undo: Undo) -> Scope:
        """Adopt this thread for what it runs of ours without a module."""
        scope = self.threads.join()
        undo.add(scope.close)
        scope.open(forward=False)
        self._adopt(scope, undo)
        return scope

    def _enter_optimizer(self, optimizer: Any, _args: object, _kwargs: object) -> None:
        ident = get_ident()
        scope = self.threads.by_ident.get(ident)
        if scope is None or not scope.observing:
            stepped = (parameter for group in optimizer.param_groups for parameter in group["params"])
            if ident in _COUNTING or not self.names.owns_any(stepped):
                return
            guard = FrameGuard(1, partial(self._end_step, ident))  # a step that raises calls no hook
            undo = Undo()
            self._stepping[ident] = undo, guard
            scope = self._observe_briefly(undo)
        scope.pop(optimizer)  # left behind by a step that raised
        self.optimizers[type(optimizer).__name__] = None
        scope.push(optimizer, scope.root, graph_task(), scope.root, optimizing=True)

    def _leave_optimizer(self, optimizer: object, _args: object, _kwargs: object) -> None:
        ident = get_ident()
        scope = self.threads.by_ident.get(ident)
        if scope is not None and scope.observing:
            scope.pop(optimizer)
            if ident in self._stepping and scope.idle:
                self._end_step(ident)

    def _end_step(self, ident: int, _token: object = None) -> None:
        """Release a thread that was adopted for the step of an optimizer."""
        if ident == get_ident() and ident in self._stepping:
            undo, _ = self._stepping.pop(ident)
            undo.run()


for _hook in (vars(Scopes)["_enter"], vars(Scopes)["_leave"]):
    unseen_by_dynamo(_hook)


def _free_thread(home: int, holder: object) -> None:
    """Let other counters adopt a thread again."""
    holders = _COUNTING.get(home, set())
    holders.discard(holder)
    if not holders:
        _COUNTING.pop(home, None)
