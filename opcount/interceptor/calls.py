"""The arguments of an operator's call."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import Tensor

from opcount._torch.dispatch import is_written, schema_of
from opcount._torch.names import FAKE_TENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount._torch.dispatch import OpOverload


def tensors(values: object) -> Iterator[Tensor]:
    """Yield the tensors among arguments, those in lists included."""
    for value in values:  # type: ignore[attr-defined]
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


_FAKE = {"FakeTensor", "FunctionalTensor"}


@lru_cache(256)
def is_fake(kind: type) -> bool:
    """Return whether tensors of a class stand for others, and have no values of their own."""
    return any(base.__name__ in _FAKE and base.__module__.startswith(FAKE_TENSORS) for base in kind.__mro__)


def takes(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether redispatch takes the arguments, and so a function of PyTorch: not Python numbers for tensors."""
    given = _by_argument(func, args, kwargs)
    return not any(isinstance(value, (int, float, complex)) and "Tensor" in str(a.type) for a, value in given)


def mutated(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operator writes into, by its schema."""
    given = _by_argument(func, args, kwargs)
    return list(tensors(value for a, value in given if is_written(func, a)))


def _by_argument(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return the arguments of the schema that are given, each with its value."""
    arguments = schema_of(func).arguments
    return [*zip(arguments, args, strict=False), *((a, kwargs[a.name]) for a in arguments if a.name in kwargs)]
