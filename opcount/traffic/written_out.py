"""Rules of traffic written out as Python, for the shape of a call: a loop over its operands takes three times as long.

Each operand is asked for its size in a line of its own. Where that fails, for tensors that are sparse or symbolic, or
are not there, the rule itself is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from opcount.traffic.touched import NO_TENSORS, touched, touched_by, touched_if_strided, touched_in

if TYPE_CHECKING:
    from torch import Tensor

    from opcount.traffic.registry import Traffic

Counts = tuple[int, int, int, int, int]
"""MACs, other operations, activations, bytes read and bytes written."""

Joint = Callable[[Any, "tuple[Any, ...]", "dict[str, Any] | None"], "Counts | None"]
"""``joint(out, args, kwargs)``; None: arguments by name say more."""


class Shape(NamedTuple):
    """Operands that a call reads and writes, by position.

    Attributes:
        read: Arguments.
        written: Arguments.
        lists: Those of the arguments that are lists of tensors.
        optional: Those of the arguments that may be left out, or be given by name.
        fresh: Returned values that are memory of their own.
        returns: How many values are returned.
        returns_list: Whether a list of tensors is returned.
        scales: Whether the first one is not read where an argument by name is 0.
    """

    read: tuple[int, ...]
    written: tuple[int, ...]
    lists: tuple[int, ...]
    optional: tuple[int, ...]
    fresh: tuple[int, ...]
    returns: int
    returns_list: bool
    scales: bool

    def unless_named(self, otherwise: str) -> str:
        """Return a statement that leaves calls to something else where arguments by name say what is touched."""
        return f"if kwargs: return {otherwise}" if self.optional or self.scales else ""

    def names(self) -> list[tuple[int, str]]:
        """Return the positions of arguments, and the names that they get: ``x0`` is the first one."""
        return [(i, f"x{i}") for i in sorted({*self.read, *self.written})]


def written_out(shape: Shape, rule: Traffic) -> Traffic:
    """Return a function that says of a call of that shape what the rule does."""
    made = _maker(shape)(rule)
    made.shape = shape
    return made  # type: ignore[no-any-return]


@cache
def _maker(shape: Shape) -> Callable[[Traffic], Any]:
    scope = _run(
        touched,
        f"""
def make(rule):
    def traffic(out, args, kwargs):
        {shape.unless_named("rule(out, args, kwargs)")}
        try:
            {_written(shape, 12)}
        except Exception:
            return rule(out, args, kwargs)
    return traffic
""",
    )
    return scope["make"]  # type: ignore[no-any-return]


@cache
def joint(shape: Shape, cost: str) -> Joint:
    """Return a function that counts a whole call, by expressions for MACs, other operations and activations."""
    scope = _run(
        touched_if_strided,
        f"""
def joint(out, args, kwargs):
    {shape.unless_named("None")}
    {_written(shape, 4, cost + ", ")}
""",
    )
    return scope["joint"]  # type: ignore[no-any-return]


@cache
def bytes_of(count: int) -> Callable[..., int]:
    """Return a function of so many arguments, which sums them as `touched_by` does a tuple."""
    names = [f"x{i}" for i in range(count)]
    scope = _run(
        touched,
        f"""
def bytes_of({", ".join(names)}):
    try:
        return {" + ".join(_of_tensors(names))}
    except Exception:
        return touched_by(({", ".join(names)},))
""",
    )
    return scope["bytes_of"]  # type: ignore[no-any-return]


def _run(touched: Callable[[Tensor], int], source: str) -> dict[str, Any]:
    scope = {"NO_TENSORS": NO_TENSORS, "touched": touched, "touched_by": touched_by, "touched_in": touched_in}
    exec(source, scope)  # noqa: S102  (made of numbers, and of what stands in this folder)
    return scope


def _written(shape: Shape, indent: int, cost: str = "") -> str:
    """Return statements that return the bytes read and written, behind a cost."""
    of = partial(_of_lists, lists=[f"x{i}" for i in shape.lists]) if shape.lists else _of_tensors
    read, written = ([f"x{i}" for i in places] for places in (shape.read, shape.written))
    lines = [f"{x} = args[{i}]{f' if len(args) > {i} else None' * (i in shape.optional)}" for i, x in shape.names()]
    sources, targets = of(read), of(written)
    if written and {*written} <= {*read}:
        lines.append(f"size = {' + '.join(targets)}")
        sources, targets = ["size", *of([x for x in read if x not in written], written)], ["size"]
    if shape.returns > 1:
        lines += [f"y{i} = out[{i}]" for i in shape.fresh]
        targets += (_of_lists if shape.returns_list else _of_tensors)([f"y{i}" for i in shape.fresh])
    elif shape.fresh:
        targets.append("touched_in(out)" if shape.returns_list else "out.nbytes")
    lines.append(f"return {cost}{' + '.join(sources) or 0}, {' + '.join(targets) or 0}")
    return f"\n{' ' * indent}".join(lines)


def _of_tensors(names: list[str], seen: Sequence[str] = ()) -> list[str]:
    """Return expressions for the bytes of tensors that are not seen."""
    terms = []
    for i, x in enumerate(names):
        size = f"({x}.nbytes if {x}.is_contiguous() or 0 not in {x}.stride() else touched({x}))"
        before = [*seen, *names[:i]]
        if before:
            same = " or ".join(f"{x} is {other}" for other in before)
            size = f"(0 if {same} or type({x}) in NO_TENSORS else {size})"
        terms.append(size)
    return terms


def _of_lists(names: list[str], seen: Sequence[str] = (), lists: Sequence[str] = ()) -> list[str]:
    """Return such expressions for tensors and lists of them."""
    begin = "seen" if seen else "seen := set()"
    return [
        f"touched_in({x}, {'seen' if i else begin})" if x in lists else f"touched_by(({x},), {'seen' if i else begin})"
        for i, x in enumerate(names)
    ]
