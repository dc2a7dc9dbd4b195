"""Validating readers of JSON: each returns the value, or raises an error with the expected value and its place."""

from __future__ import annotations

import json
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LIMIT = 10**100
"""The largest count that is accepted: beyond it, shares and percentages could not be computed."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class MismatchError(ValueError):
    """A value that a reader does not accept.

    Attributes:
        expected: Description of a valid value.
        value: The value found.
        place: The path to it in the data: ``"records[3].cost.macs"``.
    """

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected, value)
        self.expected = expected
        self.value = value
        self.place = ""

    def inside(self, step: str) -> MismatchError:
        """Prepend a step to the place, and return the error."""
        self.place = f"{step}.{self.place}" if self.place[:1] not in ("", "[") else f"{step}{self.place}"
        return self

    def __str__(self) -> str:
        at = f" at {self.place}" if self.place else ""
        return f"expected {self.expected}{at}, got {_SHORT.repr(self.value)} of type {type(self.value).__name__}"


def parse(text: str | bytes) -> Any:
    """Return the data of a JSON text.

    Raises:
        ValueError: It is no JSON, is nested too deeply, or an object has a key twice.
    """
    try:
        return json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in data if names.count(name) > 1)
        raise ValueError(f"the key {_SHORT.repr(twice)} twice in one object")
    return data


def text(value: Any) -> str:
    """Read a string."""
    if type(value) is str:
        return value
    raise MismatchError("a string", value)


def whole_number(value: Any) -> int:
    """Read a whole number from 0 to `LIMIT`."""
    if type(value) is int and 0 <= value <= LIMIT:
        return value
    raise MismatchError("a whole number from 0 to 10**100", value)


def optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Return a reader that also takes null."""
    return lambda value: None if value is None else read(value)


def sequence(read: Callable[[Any], T], *, least: int = 0) -> Callable[[Any], tuple[T, ...]]:
    """Return a reader of lists, of at least so many values."""

    def read_all(value: Any) -> tuple[T, ...]:
        if type(value) is not list or len(value) < least:
            raise MismatchError("a list" if least == 0 else f"a list of at least {least}", value)
        found: list[T] = []
        try:
            for each in value:
                found.append(read(each))  # noqa: PERF401  (their number says where it failed)
        except MismatchError as error:
            raise error.inside(f"[{len(found)}]") from None
        return tuple(found)

    return read_all


def mapping(read: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """Return a reader of objects with any keys."""

    def read_all(value: Any) -> dict[str, T]:
        if type(value) is not dict:
            raise MismatchError("an object", value)
        found: dict[str, T] = {}
        for key, each in value.items():
            try:
                found[key] = read(each)
            except MismatchError as error:
                raise error.inside(f"[{_SHORT.repr(key)}]") from None
        return found

    return read_all


def structure(make: Callable[..., T], **readers: Callable[[Any], Any]) -> Callable[[Any], T]:
    """Return a reader of objects with these keys and no others, whose values are passed on in this order."""
    known = readers.keys()
    pairs = tuple(readers.items())

    def read_all(value: Any) -> T:
        if type(value) is not dict or value.keys() != known:
            raise _wrong_keys(value, known)
        values: list[Any] = []
        try:
            for name, read in pairs:
                values.append(read(value[name]))
        except MismatchError as error:
            raise error.inside(pairs[len(values)][0]) from None
        return make(*values)

    return read_all


def _wrong_keys(value: Any, known: Any) -> MismatchError:
    names = ", ".join(known)
    if type(value) is not dict:
        return MismatchError(f"an object with {names}", value)
    absent = [name for name in known if name not in value]
    if absent:
        return MismatchError(f"{absent[0]} among the keys", list(value))
    return MismatchError(f"no other keys than {names}", next(name for name in value if name not in known))
