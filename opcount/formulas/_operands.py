"""Helpers of several families: real MACs of complex numbers, values on the host, nested sizes, refusals."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.cuda import is_captured
from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.tensors import nested_sizes_of
from opcount.errors import FormulaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_TWO_IN_A_BYTE = getattr(torch, "float4_e2m1fn_x2", None)


def real_macs(macs: int, operand: Tensor) -> int:
    """Return the real MACs: ``(a + bi) * (c + di)`` takes four."""
    return 4 * macs if operand.dtype.is_complex else macs


def has_data(x: Tensor) -> bool:
    """Return whether the tensor holds numbers: meta and fake tensors hold none.

    Raises:
        FormulaError: They cannot be read, because a CUDA graph is being captured.
    """
    if type(x) not in _PLAIN or x.is_meta:
        return False
    require(not is_captured(x), "a tensor with values, not one in a CUDA graph that is being captured", x)
    return True


def host_values(x: Tensor | None) -> Any:
    """Return the numbers of a small tensor as nested lists, or None where there are none.

    Raises:
        FormulaError: They cannot be read.
    """
    if x is None or not has_data(x):
        return None
    with dispatch_disabled():  # a real tensor has its values in a dry run, too
        return x.tolist()


def host_ints(x: Tensor | None) -> list[int] | None:
    """Return the numbers of a small integer tensor, or None where there are none."""
    values: list[int] | None = host_values(x)
    return values


def count_where(x: Tensor, test: Callable[[Tensor], Tensor]) -> int:
    """Count the elements that pass a test.

    Raises:
        FormulaError: There are no numbers to be read.
    """
    require(has_data(x), "a tensor with values", x)
    with dispatch_disabled():
        return int(test(x).sum())


def require(holds: bool, expected: str, got: object) -> None:
    """Refuse a call that a formula does not know: it is then named as uncounted.

    Raises:
        FormulaError: The condition does not hold.
    """
    if not holds:
        raise FormulaError(
            f"formula: expected {expected}, got {type(got).__name__}. Register a formula of your own for this function."
        )


def options_of(function: type) -> Mapping[str, Any]:
    """Return what the forward of a function of autograd takes from around its class: the options of its maker."""
    forward = getattr(getattr(function, "_forward_cls", function), "forward")  # noqa: B009
    return inspect.getclosurevars(inspect.unwrap(forward)).nonlocals


def needs_grad(x: object) -> bool:
    """Return whether a backward makes a gradient for an argument."""
    return isinstance(x, torch.Tensor) and x.requires_grad


def depth(a: Tensor) -> int:
    """Return the length of the rows of ``a``; four-bit floats lie two in an element."""
    k = a.shape[-1]
    return 2 * k if a.dtype is _TWO_IN_A_BYTE else k


def nested_sizes(x: Tensor) -> list[list[int]]:
    """Return the shape of each component of a (strided) nested tensor."""
    sizes: list[list[int]] = nested_sizes_of(x).tolist()
    return sizes
