"""Comparisons of a real tensor with a fake one: the operator is to be the one that the program wrote.

Python asks the right operand first where its class inherits from that of the left one, as a fake tensor's does: for
``real >= fake`` it would run ``fake <= real``.
"""

from __future__ import annotations

import dis
import functools
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from types import CodeType

_MIRRORED = {"__lt__": ">", "__le__": ">=", "__gt__": "<", "__ge__": "<="}


def unreflected(name: str) -> Any:
    """Return a method that compares a fake tensor, and leaves it to a real one on its left to do so."""
    original, mirrored = getattr(Tensor, name), _MIRRORED[name]

    @functools.wraps(original)
    def compare(tensor: Tensor, other: Any) -> Any:
        if type(other) is Tensor:
            frame = sys._getframe(1)
            if _comparison_at(frame.f_code, frame.f_lasti) == mirrored:
                return NotImplemented
        return original(tensor, other)

    return compare


@functools.lru_cache(4096)
def _comparison_at(code: CodeType, at: int) -> str | None:
    """Return the sign of the comparison that is an instruction of some code; None: it is no comparison."""
    for instruction in dis.get_instructions(code):
        if instruction.offset == at:
            return str(instruction.argval) if instruction.opname == "COMPARE_OP" else None
    return None
