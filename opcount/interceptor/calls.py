"""The arguments of an operator's call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from opcount._torch.dispatch import schema_of
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


def is_fake(kind: type) -> bool:
    """Tell whether tensors of a class stand for others, and have no values of their own."""
    return any(base.__name__ in _FAKE and base.__module__.startswith(FAKE_TENSORS) for base in kind.__mro__)


def takes(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether redispatch takes the arguments, and so a function of PyTorch: not Python numbers for tensors."""
    arguments = schema_of(func).arguments
    given = [*zip(arguments, args, strict=False), *((a, kwargs[a.name]) for a in arguments if a.name in kwargs)]
    return not any(isinstance(value, (int, float, complex)) and "Tensor" in str(a.type) for a, value in given)
