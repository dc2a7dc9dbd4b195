"""Independent bookkeeping of a program: which module multiplies how much in which phase; uses nothing of opcount.

Forward products are seen where programs call PyTorch's functions. Backward products are seen by hooks on the nodes of
autograd, which are told which gradients were computed. The stack of modules is kept around their calls.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from tests.features import tree_leaves
from tests.generator.backward_macs import Call, backward_macs, call_of
from tests.generator.forward_macs import FACTORS, OTHERS, forward_macs
from tests.generator.hidden import layers, tangent
from tests.generator.modules import Paths, Running, running_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

_NO_CALL = Call("", ())


class Book(TorchFunctionMode):
    """Keeps the book while it is entered.

    Attributes:
        macs: By path and phase.
        unsure: Phases in which a function of several products was left in the middle.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs: Counter[tuple[str, str]] = Counter()
        self.unsure: set[str] = set()
        self._paths = Paths(model)
        self._running = Running()
        self._home = 0
        self._phase = "forward"
        self._paused = False
        self._stepping = False
        self._undo = ExitStack()
        self._nodes: dict[Any, str] = {}

    def __enter__(self) -> Self:
        self._home = get_ident()
        for target, name, around in [
            (nn.Module, "_call_impl", self._call_module),
            (torch.autograd, "_engine_run_backward", self._run_backward),
            (torch.utils.checkpoint, "checkpoint", self._checkpoint),
            (Thread, "run", self._run_thread),
            (torch, "cond", self._choose),
            (torch._higher_order_ops, "while_loop", _loop),
        ]:
            self._undo.enter_context(patch.object(target, name, _bound(around, getattr(target, name))))
        self._undo.callback(register_module_forward_hook(self._leave_module, always_call=True).remove)
        self._undo.callback(register_module_forward_pre_hook(self._enter_module).remove)
        self._undo.callback(register_optimizer_step_pre_hook(self._set_stepping(True)).remove)
        self._undo.callback(register_optimizer_step_post_hook(self._set_stepping(False)).remove)
        self._undo.enter_context(self._pushed())
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # What programs call on their counter.

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = before

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    # Where programs are.

    def _call_module(self, original, module, *args, **kwargs):
        self._mark((args, kwargs))  # hooks are not told of the named ones
        with self._running.at(self._running.path):  # cleans up after exceptions
            return original(module, *args, **kwargs)

    def _enter_module(self, module, args):
        self._mark(args)
        path = self._paths.of(module, self._running.path)
        self._running.places.append(self._running.places[-1]._replace(path=path))

    def _leave_module(self, _module, _args, out):
        self._mark(out)
        self._running.places.pop()

    def _set_stepping(self, stepping: bool) -> Callable[..., None]:
        return lambda *_: setattr(self, "_stepping", stepping)

    def _checkpoint(self, original, function, *args, **kwargs):
        path, keeps, ran = self._running.path, "context_fn" in kwargs, []

        def run(*inner, **options):
            if not ran:
                ran.append(True)
                return function(*inner, **options)
            with self._running.at(path):
                self._running.kept += keeps
                try:
                    return function(*inner, **options)
                finally:
                    self._running.kept -= keeps

        return original(run, *args, **kwargs)

    def _run_backward(self, original, roots, *args, **kwargs):
        self._mark(roots)
        self._running.graphs.append(args[2])
        try:
            with self._pushed():
                return original(roots, *args, **kwargs)
        finally:
            self._running.graphs.pop()

    def _run_thread(self, original, thread):
        with self._pushed():
            return original(thread)

    def _choose(self, _original, chosen, yes, no, operands):
        """Take a branch of a ``cond``; PyTorch runs it again in backward, all in one."""
        self.unsure |= {"backward", "recompute"}
        return (yes if chosen else no)(*operands)

    @contextmanager
    def _pushed(self) -> Iterator[None]:
        """See functions that are called from here on: while one runs, PyTorch hides those that it calls."""
        if self in _get_current_function_mode_stack():
            yield
            return
        TorchFunctionMode.__enter__(self)
        try:
            yield
        finally:
            TorchFunctionMode.__exit__(self, None, None, None)

    # What they multiply.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if sys._getframe(1).f_globals["__name__"].startswith("opcount."):  # a counter of the program runs it
            return func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        try:
            out = func(*args, **(kwargs or {}))
        except Exception:
            if name in OTHERS:
                self.unsure.add(self._here()[1])
            raise
        known = name in FACTORS or name in OTHERS
        if known and not self._running.kept:
            self._note(*self._here(), forward_macs(name, out, args, kwargs or {}))
        self._mark(out, call_of(name, args) if known else _NO_CALL)
        return out

    def _here(self) -> tuple[str, str]:
        """Return where an operator belongs that runs now, and its phase."""
        task, places = running_task(), self._running.places
        if task < 0:
            return self._running.path, self._phase if places or not self._stepping else "optimizer"
        if places and places[-1].task == task:
            return self._running.path, "recompute"
        path = self._path_of(torch._C._current_autograd_node())
        again = torch.is_grad_enabled() and self._running.graphs and not self._running.graphs[-1]
        return path, "recompute" if again else "backward"

    def _path_of(self, node) -> str:
        if node is None:
            return ""
        return self._paths.owner(node.variable) if hasattr(node, "variable") else self._nodes.get(node, "")

    def _note(self, path: str, phase: str, macs: int) -> None:
        ours = get_ident() == self._home or self._running.places or running_task() >= 0
        if macs and ours and not self._paused:
            self.macs[path, phase] += macs

    def _mark(self, out: object, call: Call = _NO_CALL, path: str | None = None) -> None:
        """Note who made the nodes that are new in the graph of some tensors, and hook them."""
        path = self._here()[0] if path is None else path
        new = [node for tensor in _leaves(out) if isinstance(tensor, torch.Tensor) for node in _graphs(tensor)]
        while new:
            node = new.pop()
            if node is None or node in self._nodes or hasattr(node, "variable"):
                continue
            self._nodes[node] = path
            node.register_hook(self._hook(node, call, path))
            new += [inner for inner, _ in node.next_functions]

    def _hook(self, node, call, path):
        def ran(wanted, given):
            self._note(path, "backward", backward_macs(node, call, wanted, given))
            self._mark([each for each in wanted if each is not None], call, path)

        return ran


def _leaves(value: object) -> Iterator[Any]:
    """Yield what nested containers and dataclasses hold."""
    for leaf in tree_leaves(value):
        if is_dataclass(leaf):
            yield from _leaves(list(vars(leaf).values()))
        else:
            yield leaf


def _graphs(tensor: torch.Tensor) -> Iterator[Any]:
    """Yield the nodes that made a tensor: at each level of `torch.func`, and those that made its tangent."""
    for layer in layers(tensor):
        try:
            yield layer.grad_fn
        except RuntimeError:  # a view that was made without gradients and then written to
            continue
    along = tangent(tensor)
    if along is not None:
        yield from _graphs(along)


def _loop(_original, goes, turn, values):
    while goes(*values):
        values = turn(*values)
    return values


def _bound(around, original):
    def replacement(*args, **kwargs):
        return around(original, *args, **kwargs)

    return replacement
