"""State of autograd: the running backward, its nodes, its engine, its hooks; functions and checkpoints."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from torch.autograd.function import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.variable import Variable

from opcount._torch.lookup import need, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

with needed():
    from torch import _functorch as functorch
    from torch._C import _ImperativeEngine as ImperativeEngine

graph_task: Callable[[], int] = need("_C._current_graph_task_id")
"""Returns the id of the backward that runs on this thread, or `NO_TASK`."""
NO_TASK = -1
running_node: Callable[[], Any] = need("_C._current_autograd_node")
sequence_number: Callable[[], int] = need("_C._autograd._get_sequence_nr")
"""Returns the number that this thread's next node of a graph gets."""

is_multithreaded: Callable[[], bool] = need("_C._is_multithreading_enabled")
set_multithreaded: Callable[[bool], None] = need("_C._set_multithreading_enabled")

inference_guard: Callable[[bool], Any] = need("_C._InferenceMode")
"""Context manager in C++ that switches inference mode, and puts back whether gradients are recorded, too. It is in
force as soon as it is made."""
_record_gradients: Callable[[bool], Any] = need("_C._set_grad_enabled")


def autograd_disabled() -> Any:
    """Return a guard, in force as soon as it is made, that records no gradients and leaves inference mode.

    It never stands in a variable: where an interrupt leaves a block of such guards, they are freed with the stack, one
    after the other; a traceback would keep those in variables, past the modes of the block.
    """
    return (inference_guard(False), _record_gradients(False))[0]  # noqa: FBT003  (they take no keywords)


_HOOKS: Any = need("_C._autograd")
saved_tensor_hooks: Callable[[bool], Any] = getattr(
    _HOOKS, "_top_saved_tensors_default_hooks", lambda _ignore_tracing: None
)
"""Returns the innermost hooks on saved tensors: inside a non-reentrant checkpoint, its own. Since 2.7; None before."""


def node_of_checkpoint(checkpoint: Any) -> Any:
    """Return the node that a non-reentrant checkpoint makes where it is called, by the state that it keeps."""
    return getattr(getattr(checkpoint, "input_saver", None), "grad_fn", None)


SingleLevelFunction: Any = need("autograd.function._SingleLevelFunction")
APPLY_IS_PYTHON: bool = hasattr(vars(Function)["apply"], "__func__")
"""True if ``Function.apply`` is Python and calls another; from 2.15 on it is C++ and calls ``forward``."""
APPLIED: tuple[Any, ...] = (SingleLevelFunction,) if APPLY_IS_PYTHON else (SingleLevelFunction, Function)
"""The classes that ``apply`` goes through last in Python: functorch's functions are of the first alone."""
functorch_functions: Any = functorch.autograd_function
"""The module in which functorch makes a function of a program's own, and runs its rule for ``vmap``."""

forward_class: Callable[[Any], Any] = attrgetter("_forward_cls")
"""Returns the function that a node of a graph was made by."""
backward_class: Callable[[Any], Any] = attrgetter("_backward_cls")
"""Returns the class of the nodes that a function makes."""
sequence_number_of: Callable[[Any], int] = methodcaller("_sequence_nr")
"""Returns the number of a node: nodes that were created later on the same thread have higher ones."""


def engine() -> Any:
    """Return the object through which Python starts every backward."""
    return Variable._execution_engine


def set_engine(engine: Any) -> None:
    """Have Python start every backward through another object."""
    Variable._execution_engine = engine


_DISABLES_SET_HOOKS: bool = "fail_if_non_empty" in (_HOOKS._saved_tensors_hooks_disable.__doc__ or "")
"""Flag: hooks can be disabled that are set already. Since 2.8. Before, others are set that change nothing."""


def _same(tensor: Any) -> Any:
    return tensor


@contextmanager
def saved_tensor_hooks_disabled(reason: str) -> Iterator[None]:
    """Keep the program's hooks on saved tensors, which may copy or write what they get, from seeing any.

    Args:
        reason: What a program is told that pushes hooks meanwhile.
    """
    before = _HOOKS._saved_tensors_hooks_get_disabled_error_message()
    if not _DISABLES_SET_HOOKS:
        with nullcontext() if before is not None else saved_tensors_hooks(_same, _same):
            yield
        return
    _HOOKS._saved_tensors_hooks_disable(reason, fail_if_non_empty=False)
    try:
        yield
    finally:
        if before is None:
            _HOOKS._saved_tensors_hooks_enable()
        else:
            _HOOKS._saved_tensors_hooks_disable(before, fail_if_non_empty=False)
