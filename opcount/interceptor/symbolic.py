"""Symbolic sizes: fake tensors of a mode with a shape environment, whose sizes are expressions.

To ask whether such a size is 1 makes it 1 for good: PyTorch notes a guard. So guards are suppressed wherever opcount
might ask, and what a report shows is the value at the sizes that the program was run with.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from torch import SymInt

from opcount._torch.slow import decompositions
from opcount._torch.tensors import has_symbolic_shape
from opcount.interceptor.calls import is_fake, tensors

_LARGE = 2**60

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opcount._torch.dispatch import OpOverload


def unguarded(values: tuple[Any, ...]) -> AbstractContextManager[None]:
    """Return a context in which nothing is noted of the symbolic sizes of tensors, whatever is asked."""
    modes = (getattr(tensor, "fake_mode", None) for tensor in tensors(values))
    environment = next((mode.shape_env for mode in modes if mode is not None and mode.shape_env is not None), None)
    return nullcontext() if environment is None else environment.suppress_guards()


def has_symbolic_sizes(values: tuple[Any, ...]) -> bool:
    """Return whether a tensor among values has a size that is an expression."""
    return any(is_fake(type(tensor)) and has_symbolic_shape(tensor) for tensor in tensors(values))


def decompose_symbolically(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a composite operator as fake mode does: in Python where possible, as many kernels in C++ need plain sizes."""
    return decompositions().get(func, func.decompose)(*args, **kwargs)


def value_of(number: int | SymInt) -> int | None:
    """Return a number as it is at the sizes that the program was run with; None if only data tell."""
    if not isinstance(number, SymInt):
        return number
    try:
        with number.node.shape_env.suppress_guards():
            return int(number)
    except (AttributeError, RuntimeError):  # of a nested tensor; of a size that depends on data
        return None


def size_of(number: int | SymInt) -> int:
    """Return a number to compare with, at the sizes at hand; where only data tell, one that is large."""
    if type(number) is int:
        return number
    value = value_of(number)
    return _LARGE if value is None else value


def least_of(number: int | SymInt) -> int:
    """Return the least that a count can be: what it is where the sizes that only data tell are 0."""
    if not isinstance(number, SymInt):
        return number
    try:
        sizes = {symbol: size or 0 for symbol, size in _sizes(number).items()}
        return max(0, int(number.node.expr.xreplace(sizes)))
    except (AttributeError, ArithmeticError, TypeError, ValueError):  # of a nested tensor; undefined at 0
        return 0


def sizes_in(number: int | SymInt) -> dict[str, int | None]:
    """Return the symbols that a count is made of, with the sizes at hand; None for what only data tell."""
    try:
        return {str(symbol): size for symbol, size in _sizes(number).items()}
    except AttributeError:  # a plain number; of a nested tensor
        return {}


def _sizes(number: Any) -> dict[Any, int | None]:
    environment = number.node.shape_env
    known = getattr(environment, "backed_var_to_val", None) or environment.var_to_val
    symbols = sorted(number.node.expr.free_symbols, key=str)
    return {symbol: int(known[symbol]) if symbol in known else None for symbol in symbols}
