"""Checks of values: ``if condition: raise``, ``assert condition``. A dry run takes them to pass, as in a real run.

A condition that has no value in a dry run is asked for its truth. Where one of the two ways leads straight to a
``raise``, the program goes the other way.
"""

from __future__ import annotations

import dis
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from opcount.dryrun.warning_branches import truth_without_message

if TYPE_CHECKING:
    from types import CodeType, FrameType

_CHECK = getattr(getattr(torch, "_check_tensor_all_with", None), "__code__", None)
"""Raises unless all elements of a condition are true."""

_CONTAINS = torch.Tensor.__contains__.__code__
"""Asks for the truth of what Python's ``in`` is asked for."""

_CALLS = {"CALL", "CALL_METHOD", "CALL_FUNCTION"}
_LEADS = {"TO_BOOL", "NOT_TAKEN", "CACHE", "COPY"}
"""Instructions between a call and a jump that change nothing of what the jump depends on."""


def truth_to_go_on(frame: FrameType) -> bool | None:
    """Return the truth for which a frame goes on as in most real runs: without an error or a message; None: unknown."""
    if frame.f_code is _CHECK:
        return True
    asking = frame.f_back if frame.f_code is _CONTAINS else frame
    if asking is None:
        return None
    truth = truth_that_passes(asking)
    return truth_without_message(asking) if truth is None else truth


def truth_that_passes(frame: FrameType) -> bool | None:
    """Return the truth for which a frame that asks for it does not raise; None: it is not a check."""
    if sys.version_info < (3, 11):  # blocks that catch errors cannot be told
        return None
    return _truth(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _truth(code: CodeType, asked_at: int) -> bool | None:
    code_of = dis.Bytecode(code)
    instructions = list(code_of)
    at = {instruction.offset: i for i, instruction in enumerate(instructions)}
    i = at.get(asked_at)
    if i is None:
        return None
    if instructions[i].opname in _CALLS:
        i += 1
    while i < len(instructions) and instructions[i].opname in _LEADS:
        i += 1
    jump = instructions[i]
    if "JUMP" not in jump.opname or not jump.opname.endswith(("IF_TRUE", "IF_FALSE")):
        return None
    caught = [(entry.start, entry.end) for entry in getattr(code_of, "exception_entries", ())]
    stays, jumps = (_raises(instructions[start:], caught) for start in (i + 1, at[jump.argval]))
    return None if stays == jumps else stays == jump.opname.endswith("IF_TRUE")


def _raises(instructions: list[dis.Instruction], caught: list[tuple[int, int]]) -> bool:
    """Tell whether instructions lead straight to a ``raise`` that nothing around it catches."""
    for instruction in instructions:
        if instruction.opname == "RAISE_VARARGS":
            return not any(start <= instruction.offset < end for start, end in caught)
        if "JUMP" in instruction.opname or "RETURN" in instruction.opname or "FOR_ITER" in instruction.opname:
            return False
    return False
