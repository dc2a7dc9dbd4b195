"""Shapes of an operator's results: what the memo keeps of a call."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opcount._torch.tensors import storage_key
from opcount.dryrun.tensors import DryTensor
from opcount.interceptor.calls import tensors


class Shape(NamedTuple):
    """Metadata of one fake tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    offset: Any


def result_shapes(out: Any) -> Any:
    """Return the shapes of an operator's results, or None if shapes do not describe them."""
    if type(out) is DryTensor:
        return (
            Shape(tuple(out.shape), out.stride(), out.dtype, out.fake_device, out.storage_offset())
            if _is_plain(out)
            else None
        )
    if type(out) in (tuple, list):
        answers = [result_shapes(o) if isinstance(o, Tensor) else o for o in out]
        fine = all(type(a) is Shape or isinstance(a, (int, float)) or a is None for a in answers)
        lost = any(a is None and o is not None for a, o in zip(answers, out, strict=True))
        return type(out)(answers) if fine and not lost else None
    return None


def have_few_elements(shapes: Any, limit: int) -> bool:
    """Return whether each result of an operator has at most ``limit`` elements, by its cached shapes."""
    if type(shapes) is Shape:
        return prod(shapes.size) <= limit
    if type(shapes) in (tuple, list):
        return all(type(each) is not Shape or have_few_elements(each, limit) for each in shapes)
    return shapes is True  # the argument itself


def shares_memory(out: Any, args: tuple[Any, ...]) -> bool:
    """Return whether a result shares the memory of the first argument."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.layout is not torch.strided:
        return False
    if first.is_nested:
        return False
    storage = storage_key(first.untyped_storage())
    return any(t.layout is torch.strided and storage_key(t.untyped_storage()) == storage for t in tensors((out,)))


def _is_plain(tensor: DryTensor) -> bool:
    if tensor.layout is not torch.strided:
        return False
    symbolic = any(not isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))
    return not (symbolic or tensor.dtype.is_complex)
