"""Checks of values: ``if condition: raise``, ``assert condition``. A dry run takes them to pass, as in a real run.

A condition that has no value in a dry run is asked for its truth. Where one of the two ways leads straight to a
``raise``, the program goes the other way.
"""

from __future__ import annotations

import dis
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.names import OPERATORS_FILE
from opcount.dryrun.warning_branches import truth_without_message

if TYPE_CHECKING:
    from types import CodeType, FrameType

_CHECK = getattr(getattr(torch, "_check_tensor_all_with", None), "__code__", None)
"""Raises unless all elements of a condition are true."""

_CONTAINS = torch.Tensor.__contains__.__code__
"""Asks for the truth of what Python's ``in`` is asked for."""

_CALLS = {"CALL", "CALL_METHOD", "CALL_FUNCTION"}
_ASKS = {*_CALLS, "COMPARE_OP"}
_LEADS = {"TO_BOOL", "NOT_TAKEN", "CACHE", "COPY"}
"""Instructions between a call and a jump that change nothing of what the jump depends on."""


_OURS = (str(Path(__file__).parents[1]), OPERATORS_FILE)


@cache
def _is_ours(file: str) -> bool:
    return file.startswith(_OURS)


def asking(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame that is not ours."""
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def truth_to_go_on(frame: FrameType) -> bool | None:
    """Return the truth for which a frame goes on as in most real runs: without an error or a message; None: unknown."""
    if frame.f_code is _CHECK:
        return True
    outer = frame.f_back if frame.f_code is _CONTAINS else frame
    if outer is None:
        return None
    truth = truth_that_passes(outer)
    return truth_without_message(outer) if truth is None else truth


def truth_that_passes(frame: FrameType) -> bool | None:
    """Return the truth for which a frame that asks for it does not raise; None: it is not a check."""
    if sys.version_info < (3, 11):  # blocks that catch errors cannot be told
        return None
    return _truth(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def instruction_at(code: CodeType, at: int, further: int = 0) -> dis.Instruction | None:
    """Return an instruction of some code, or the one so many further; None: there is none."""
    instructions = [each for each in dis.get_instructions(code) if each.opname not in _LEADS]
    at = max((i for i, each in enumerate(instructions) if each.offset <= at), default=len(instructions))
    return instructions[at + further] if at + further < len(instructions) else None


def called_function(frame: FrameType) -> str | None:
    """Return the last name of the function that a frame is calling, as it is written there; None: it is not told."""
    return None if sys.version_info < (3, 11) else _called(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _called(code: CodeType, at: int) -> str | None:
    """Return the last name that is loaded where the text of a call begins."""
    call = instruction_at(code, at)
    if call is None or call.opname not in _CALLS:
        return None
    begins = _begins(call)
    names = [
        each.argval
        for each in dis.get_instructions(code)
        if each.offset < at and each.opname.startswith("LOAD_") and _begins(each) == begins
    ]
    return names[-1] if names and isinstance(names[-1], str) and None not in begins else None


def _begins(instruction: Any) -> tuple[int | None, int | None]:
    return instruction.positions.lineno, instruction.positions.col_offset


@lru_cache(4096)
def _truth(code: CodeType, asked_at: int) -> bool | None:
    code_of = dis.Bytecode(code)
    instructions = list(code_of)
    at = {instruction.offset: i for i, instruction in enumerate(instructions)}
    i = max(
        (i for i, each in enumerate(instructions) if each.offset <= asked_at), default=0
    )  # Python 3.11: in its cache
    if instructions[i].opname in _ASKS:
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
