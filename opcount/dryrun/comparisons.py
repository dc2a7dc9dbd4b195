"""Comparisons of a real tensor with a fake one, by the operator that the program wrote.

Python calls the reflected method of the right operand first if its class is derived from that of the left one, as a
fake tensor's is: for ``real >= fake`` it would run ``fake <= real``.
"""

from __future__ import annotations

import dis
import functools
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

from opcount.dryrun.checks import called_function

if TYPE_CHECKING:
    from types import CodeType

_MIRRORED = {"__lt__": ">", "__le__": ">=", "__gt__": "<", "__ge__": "<="}

_BY_FUNCTION = {"max": ">", "min": "<", "sorted": "<", "sort": "<"}
"""Comparisons of Python's own functions."""


def unreflected(name: str) -> Any:
    """Return a comparison method that returns NotImplemented where Python calls it as the reflected one."""
    original, mirrored = getattr(Tensor, name), _MIRRORED[name]

    @functools.wraps(original)
    def compare(tensor: Tensor, other: Any) -> Any:
        if type(other) is Tensor:
            frame = sys._getframe(1)
            asked = _comparison_at(frame.f_code, frame.f_lasti) or _BY_FUNCTION.get(called_function(frame) or "")
            if asked == mirrored:
                return NotImplemented
        return original(tensor, other)

    return compare


@functools.lru_cache(4096)
def _comparison_at(code: CodeType, at: int) -> str | None:
    """Return the operator of a comparison instruction, or None for another instruction."""
    for instruction in dis.get_instructions(code):
        if instruction.offset == at:
            return str(instruction.argval) if instruction.opname == "COMPARE_OP" else None
    return None
