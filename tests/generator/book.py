"""Independent bookkeeping of a program: which module multiplies how much in which phase; uses nothing of opcount.

Forward products are seen where programs call PyTorch's functions. Backward products are seen by hooks on the nodes of
autograd, which are told which gradients were computed. The stack of modules is kept around their calls.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from threading import Thread, get_ident, local
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import torch
import torch.utils.checkpoint
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._pytree import tree_leaves

from tests.generator.backward_macs import backward_macs
from tests.generator.forward_macs import forward_macs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_task = torch._C._current_graph_task_id


class Place(NamedTuple):
    """A running module.

    Attributes:
        path: Of the innermost module that the model knows.
        task: The backward inside of which it was called.
    """

    path: str
    task: int


class _Stack(local):
    """The running modules of a thread."""

    def __init__(self) -> None:
        self.places: list[Place] = []


class Book(TorchFunctionMode):
    """Keeps the book while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[str] = Counter()
        self._paths = {module: path for path, module in model.named_modules()}
        self._owners = {id(p): path for path, m in model.named_modules() for p in m.parameters(recurse=False)}
        self._stack = _Stack()
        self._home = 0
        self._phase = "forward"
        self._paused = False
        self._undo = ExitStack()
        self._nodes: dict[Any, str] = {}

    def __enter__(self) -> Self:
        self._home = get_ident()
        for target, name, value in [
            (nn.Module, "_call_impl", self._around(nn.Module._call_impl)),
            (torch.autograd, "_engine_run_backward", self._running(torch.autograd._engine_run_backward)),
            (torch.utils.checkpoint, "checkpoint", self._checkpoint(torch.utils.checkpoint.checkpoint)),
            (Thread, "run", self._running(Thread.run)),
        ]:
            self._undo.enter_context(patch.object(target, name, value))
        self._undo.callback(nn.modules.module.register_module_forward_hook(self._left, always_call=True).remove)
        self._undo.callback(nn.modules.module.register_module_forward_pre_hook(self._entered).remove)
        self._undo.enter_context(_pushed(self))
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

    # Modules.

    def _around(self, call):
        def called(module, *args, **kwargs):
            depth = len(self._stack.places)
            try:
                return call(module, *args, **kwargs)
            finally:
                del self._stack.places[depth:]

        return called

    def _entered(self, module, _args):
        path = self._paths.get(module)
        if path is None:
            path = self._path()
        else:
            self.calls[path] += 1
        self._stack.places.append(Place(path, _task()))

    def _left(self, _module, _args, out):
        self._mark(out)
        self._stack.places.pop()

    def _path(self) -> str:
        return self._stack.places[-1].path if self._stack.places else ""

    @contextmanager
    def _at(self, path: str) -> Iterator[None]:
        depth = len(self._stack.places)
        self._stack.places.append(Place(path, _task()))
        try:
            yield
        finally:
            del self._stack.places[depth:]

    def _checkpoint(self, checkpoint):
        def checkpointed(function, *args, **kwargs):
            path, ran = self._path(), []

            def run(*inner, **options):
                if not ran:
                    ran.append(True)
                    return function(*inner, **options)
                with self._at(path):
                    return function(*inner, **options)

            return checkpoint(run, *args, **kwargs)

        return checkpointed

    # Products.

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        macs = forward_macs(getattr(func, "__name__", ""), out, args, kwargs or {})
        if macs:
            self._note(*self._here(), macs)
        self._mark(out)
        return out

    def _running(self, function):
        def ran(*args, **kwargs):
            if self in _get_current_function_mode_stack():
                return function(*args, **kwargs)
            with _pushed(self):
                return function(*args, **kwargs)

        return ran

    def _here(self) -> tuple[str, str]:
        """Return where an operator belongs that runs now, and its phase."""
        task, places = _task(), self._stack.places
        if task < 0:
            return self._path(), self._phase
        if places and places[-1].task == task:
            return places[-1].path, "recompute"
        return self._path_of(torch._C._current_autograd_node()), "backward"

    def _path_of(self, node) -> str:
        if node is None:
            return ""
        if hasattr(node, "variable"):
            return self._owners.get(id(node.variable), "")
        return self._nodes.get(node, "")

    def _note(self, path: str, phase: str, macs: int) -> None:
        if not self._paused and (get_ident() == self._home or self._stack.places or phase == "backward"):
            self.macs[path, phase] += macs

    def _mark(self, out: object, path: str | None = None) -> None:
        """Note who made the nodes that are new in the graph of some tensors, and hook them."""
        path = self._here()[0] if path is None else path
        new = [tensor.grad_fn for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)]
        while new:
            node = new.pop()
            if node is None or node in self._nodes or hasattr(node, "variable"):
                continue
            self._nodes[node] = path
            node.register_hook(self._hook(node, path))
            new += [inner for inner, _ in node.next_functions]

    def _hook(self, node, path):
        def ran(wanted, given):
            macs = backward_macs(node, wanted, given)
            if macs:
                self._note(path, "backward", macs)
            self._mark([each for each in wanted if each is not None], path)

        return ran


@contextmanager
def _pushed(mode: TorchFunctionMode) -> Iterator[None]:
    TorchFunctionMode.__enter__(mode)
    try:
        yield
    finally:
        TorchFunctionMode.__exit__(mode, None, None, None)
