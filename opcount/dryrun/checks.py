"""Checks of values such as ``if condition: raise`` and ``assert condition``, which a dry run lets pass.

A program converts a condition without a value to a bool. If one of the two branches leads straight to a ``raise``, the
dry run takes the other one.
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
"""Code that raises unless all elements of a condition are true."""

_CONTAINS = torch.Tensor.__contains__.__code__
"""Code of the operator ``in``, which converts its result to a bool."""

_CALLS = {"CALL", "CALL_METHOD", "CALL_FUNCTION"}
_ASKS = {*_CALLS, "COMPARE_OP"}
_BY_NAME = {"KW_NAMES", "CALL_KW", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX"}
_PUSHES_ONE = {"LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_CONST", "LOAD_SMALL_INT", "LOAD_GLOBAL", "LOAD_DEREF"}
_LEADS = {"TO_BOOL", "NOT_TAKEN", "CACHE", "COPY"}
"""Instructions between a call and a jump that leave the tested value as it is."""


_OURS = (str(Path(__file__).parents[1]), OPERATORS_FILE)


@cache
def _is_ours(file: str) -> bool:
    return file.startswith(_OURS)


def asking(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame outside of opcount."""
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def truth_to_go_on(frame: FrameType) -> bool | None:
    """Return the truth value for which a frame neither raises nor shows a message, or None if there is none."""
    if frame.f_code is _CHECK:
        return True
    outer = frame.f_back if frame.f_code is _CONTAINS else frame
    while outer is not None and _returns(outer.f_code, outer.f_lasti):
        outer = outer.f_back
    if outer is None:
        return None
    truth = truth_that_passes(outer)
    return truth_without_message(outer) if truth is None else truth


def truth_that_passes(frame: FrameType) -> bool | None:
    """Return the truth value for which a frame does not raise, or None if its test is not a check."""
    if sys.version_info < (3, 11):  # blocks that catch errors cannot be told
        return None
    return _truth(frame.f_code, frame.f_lasti)


def is_compared_in_a_check(frame: FrameType) -> bool:
    """Return whether a frame only compares the result of its current call, and raises for one of the two outcomes."""
    return sys.version_info >= (3, 11) and _is_compared(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _is_compared(code: CodeType, at: int) -> bool:
    further = 1
    following = instruction_at(code, at, further)
    if following is not None and following.opname in _PUSHES_ONE:
        further += 1
        while (following := instruction_at(code, at, further)) is not None and following.opname == "LOAD_ATTR":
            further += 1
    return following is not None and following.opname == "COMPARE_OP" and _truth(code, following.offset) is not None


@lru_cache(4096)
def instruction_at(code: CodeType, at: int, further: int = 0) -> dis.Instruction | None:
    """Return the instruction ``further`` places after the one at an offset, or None if there is none."""
    instructions = [each for each in dis.get_instructions(code) if each.opname not in _LEADS]
    at = max((i for i, each in enumerate(instructions) if each.offset <= at), default=len(instructions))
    return instructions[at + further] if at + further < len(instructions) else None


def called_function(frame: FrameType) -> str | None:
    """Return the name by which a frame calls a function, without its prefix, or None if it has none."""
    return None if sys.version_info < (3, 11) else _called(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _returns(code: CodeType, at: int) -> bool:
    """Return whether the result of a call is returned as it is: who called the function decides then."""
    call, following = instruction_at(code, at), instruction_at(code, at, 1)
    return call is not None and call.opname in _CALLS and following is not None and following.opname == "RETURN_VALUE"


@lru_cache(4096)
def _passes_keywords(code: CodeType, at: int) -> bool:
    near = (instruction_at(code, at, further) for further in (0, -1, -2))
    return any(each is not None and each.opname in _BY_NAME for each in near)


def passes_keywords(frame: FrameType) -> bool:
    """Return whether the current call of a frame may pass arguments by name."""
    return _passes_keywords(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _called(code: CodeType, at: int) -> str | None:
    """Return the last name that is loaded where the source of a call begins."""
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
    """Return whether instructions lead straight to a ``raise`` outside of any ``try``."""
    for instruction in instructions:
        if instruction.opname == "RAISE_VARARGS":
            return not any(start <= instruction.offset < end for start, end in caught)
        if "JUMP" in instruction.opname or "RETURN" in instruction.opname or "FOR_ITER" in instruction.opname:
            return False
    return False
