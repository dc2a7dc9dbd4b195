"""Values of a traced graph, as handles of mmengine and fvcore, ``handle(inputs, outputs)``, ask them.

A handle was written for the values of a graph traced by ``torch.jit.trace``. Here it gets objects that answer the same
questions about real tensors and arguments: ``isCompleteTensor()``, ``type().sizes()``, ``toIValue()``,
``node().inputs()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from opcount._torch.dispatch import schema_of

Handle = Callable[[list[Any], list[Any]], Any]


class Value:
    """One argument or output, with the questions that a handle asks of a value in a traced graph.

    What asks of a tensor's type answers None for anything else.
    """

    def __init__(self, value: object) -> None:
        self._value = value

    def isCompleteTensor(self) -> bool:  # noqa: N802  (the name in torch._C.Value)
        """Return whether this is a tensor."""
        return isinstance(self._value, torch.Tensor)

    def type(self) -> Value:
        """Return what answers `sizes`, `dim`, `dtype`, `scalarType` and `kind`."""
        return self

    def sizes(self) -> list[int] | None:
        """Return the shape."""
        return list(self._value.shape) if isinstance(self._value, torch.Tensor) else None

    def dim(self) -> int | None:
        """Return the rank."""
        return self._value.dim() if isinstance(self._value, torch.Tensor) else None

    def dtype(self) -> torch.dtype | None:
        """Return the dtype."""
        return self._value.dtype if isinstance(self._value, torch.Tensor) else None

    def scalarType(self) -> str | None:  # noqa: N802  (the name in torch._C.TensorType)
        """Return the dtype by its name in C++, ``"Float"``."""
        return (
            self._value.type().split(".")[-1].removesuffix("Tensor") if isinstance(self._value, torch.Tensor) else None
        )

    def kind(self) -> str:
        """Return ``"TensorType"``, or the name of the class of anything else."""
        return "TensorType" if isinstance(self._value, torch.Tensor) else type(self._value).__name__

    def toIValue(self) -> object:  # noqa: N802  (the name in torch._C.Value)
        """Return the argument itself."""
        return self._value

    def node(self) -> Value:
        """Return what answers `inputs`: the elements of a list."""
        return self

    def inputs(self) -> Iterator[Value]:
        """Yield the elements of a list; nothing of anything else."""
        if isinstance(self._value, (list, tuple)):
            yield from map(Value, self._value)


def complete(overload: Any, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
    """Return every argument in the order of the schema, defaults included, as a traced graph has them."""
    rest = schema_of(overload).arguments[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]
