"""Conditions that only show a message, such as ``if (ids == padding).any(): logger.warning(...)``.

A message runs no operators, so a dry run may leave it out. It takes numbers to be finite, and so leaves out what only
bounds those that are not, ``if not isfinite(x).all(): x = x.clamp(...)``. The statement is parsed from the program's
source; without a source, nothing is assumed.
"""

from __future__ import annotations

import ast
import dis
import linecache
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    Span = tuple[int, int, int, int]

_SHOW = {
    "warn", "warn_once", "warning", "warning_once", "warning_advice", "info", "info_once", "debug", "error", "print",
    "rank_zero_warn", "rank_zero_info", "rank_zero_debug",
}  # fmt: skip
"""Names of functions that show a message."""

_FINITE = {"isfinite", "isinf", "isnan"}
_REPAIR = {"clamp", "clip", "finfo", "nan_to_num", "where", "zeros_like", "full_like"}
"""Names of functions that bound numbers."""

_DESCRIBE = {"format", "getattr", "isinstance", "join", "len", "repr", "str", "type"}
"""Names of functions that format a message."""

_PLAIN = (
    ast.Name, ast.Attribute, ast.Constant, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.keyword, ast.expr_context,
    ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop, ast.UnaryOp, ast.Not, ast.Mod, ast.Add,
)  # fmt: skip
"""Syntax nodes without calls."""


_ASK = {"TO_BOOL", "UNARY_NOT"}
"""Instructions that convert to a bool, besides jumps."""


class _If(NamedTuple):
    """An ``if`` statement and its function."""

    statement: ast.If
    function: ast.AST


def truth_without_message(frame: FrameType) -> bool | None:
    """Return the truth value for which a frame shows no message, or None if more depends on it."""
    return _truth(frame.f_code, frame.f_lasti)


@lru_cache(4096)
def _truth(code: CodeType, asked_at: int) -> bool | None:
    span = _asked(code, asked_at)
    if span is None:
        return None
    for found in _ifs(code.co_filename):
        test = found.statement.test
        if _contains(_span(test), span):
            truth = _truth_that_skips(test, span)
            return truth if truth is not None and (_shows_alone(found) or _repairs_alone(found, span)) else None
    return None


def _asked(code: CodeType, asked_at: int) -> Span | None:
    """Return the source span of the expression that is converted to a bool; for a jump, of the one before it."""
    asking: dis.Instruction | None = None
    asked_at = max(
        each.offset for each in dis.get_instructions(code) if each.offset <= asked_at
    )  # it may be in a cache
    for instruction in dis.get_instructions(code):
        if instruction.offset == asked_at:
            asking = asking if "JUMP" in instruction.opname or instruction.opname in _ASK else instruction
            break
        if instruction.opname != "COPY":
            asking = instruction
    positions = getattr(asking, "positions", None)  # from Python 3.11 on
    if positions is None or None in positions:
        return None
    return positions.lineno, positions.col_offset, positions.end_lineno, positions.end_col_offset


@lru_cache(64)
def _ifs(file: str) -> tuple[_If, ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    return tuple(_ifs_in(tree, tree))


def _ifs_in(node: ast.AST, function: ast.AST) -> Iterator[_If]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If):
            yield _If(child, function)
        inside = child if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        yield from _ifs_in(child, inside)


def _span(node: ast.expr) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _contains(outer: Span, inner: Span) -> bool:
    return outer[:2] <= inner[:2] and inner[2:] <= outer[2:]


def _truth_that_skips(test: ast.expr, asked: Span) -> bool | None:
    """Return the truth value of an operand that makes a condition false, or None if it is no operand."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        truth = _truth_that_skips(test.operand, asked)
        return None if truth is None else not truth
    if isinstance(test, ast.BoolOp):
        return next((_truth_that_skips(v, asked) for v in test.values if _contains(_span(v), asked)), None)
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.NotIn) if _span(test) == asked else None
    return False if _span(test) == asked else None


def _shows_alone(found: _If) -> bool:
    """Return whether a statement only shows messages."""
    statement = found.statement
    if statement.orelse or not all(map(_is_message, statement.body)):
        return False
    inside = {id(node) for part in statement.body for node in ast.walk(part)}
    names = [node for node in ast.walk(found.function) if isinstance(node, ast.Name)]
    written = {name.id for name in names if id(name) in inside and _is_stored(name)}
    return not any(name.id in written and id(name) not in inside and not _is_stored(name) for name in names)


def _repairs_alone(found: _If, asked: Span) -> bool:
    """Return whether a statement only asks whether numbers are finite, and only bounds them if they are not."""
    expressions = [node for node in ast.walk(found.statement.test) if isinstance(node, ast.expr)]
    names = {_name(node) for node in expressions if _contains(asked, _span(node))}
    if found.statement.orelse or not names & _FINITE:
        return False
    body = found.statement.body
    calls = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Call)]
    return all(isinstance(part, ast.Assign) for part in body) and all(_name(call.func) in _REPAIR for call in calls)


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _is_message(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return not statement.orelse and _is_plain(statement.test) and all(map(_is_message, statement.body))
    if isinstance(statement, ast.Assign):
        return all(map(_is_stored, statement.targets)) and _is_plain(statement.value)
    if isinstance(statement, ast.AugAssign):
        return _is_stored(statement.target) and _is_text(statement.value)
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    call = statement.value
    return _name(call.func) in _SHOW and all(map(_is_plain, (*call.args, *call.keywords)))


def _is_plain(node: ast.AST) -> bool:
    """Return whether an expression only formats text."""
    if isinstance(node, ast.Call):
        return _name(node.func) in _DESCRIBE and all(map(_is_plain, (*node.args, *node.keywords)))
    if isinstance(node, ast.BinOp):
        return (_is_text(node.left) or _is_text(node.right)) and all(map(_is_plain, (node.left, node.right)))
    return isinstance(node, _PLAIN) and all(map(_is_plain, ast.iter_child_nodes(node)))


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_plain(node)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _name(function: ast.expr) -> str | None:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None
