"""Description of a call of a module as text: names, shapes and dtypes of its tensors, and no tensors."""

from __future__ import annotations

import inspect
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import torch
from torch import nn

from opcount._torch.dispatch import functions_disabled
from opcount._torch.tracing import is_traced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STRIDED = torch.strided
_MOST = 16
"""Tensors of a call that are described; a cache may hold hundreds."""

_LONGEST = 64
"""Items of a container that are looked at."""

_DEEP = 3
"""Containers inside of containers that are looked into."""


Sizes = Union["torch.Size", "tuple[Sizes, ...]", None]
"""A shape, None for a tensor without one, or these in tuples."""


class CallShapes(NamedTuple):
    """One call of a module.

    Attributes:
        arguments: ``"x=1x3x224x224:float32 mask=1x64:bool"``, as ``opcount count --input`` takes them.
        inputs: Their shapes alone, ``"1x3x224x224, 1x64"``.
        outputs: Shapes of what it returned.
        batch: The first dimension, if the first argument and the first result share it; else None.
    """

    arguments: str = ""
    inputs: str = ""
    outputs: str = ""
    batch: int | None = None

    def described(self) -> CallShapes:
        """Return the call as text, which it is."""
        return self


class SizesOfCall(NamedTuple):
    """One call of a module, to be made text when a profile is: most are none's business before.

    Attributes:
        inputs: Shapes of the tensors among the arguments, in tuples as the arguments are in containers.
        outputs: The same of what it returned.
    """

    inputs: Sizes
    outputs: Sizes

    def described(self) -> CallShapes:
        """Return the call as text."""
        return CallShapes("", _listed(list(_leaves(self.inputs))), _listed(list(_leaves(self.outputs))))


class _Found(NamedTuple):
    name: str
    shape: tuple[Any, ...] | None
    dtype: str

    def __str__(self) -> str:
        text = f"{_sizes(self.shape)}:{self.dtype}"
        return f"{self.name}={text}" if self.name else text


def shapes_of(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> CallShapes | SizesOfCall:
    """Return the shapes of a call: nothing while TorchScript traces, which would record that they were asked for."""
    if is_traced():
        return CallShapes()
    with functions_disabled():  # what is asked of a tensor is no business of the program's own modes
        if len(args) == 1 and not kwargs:  # most modules
            return SizesOfCall(_sizes_in(args[0]), _sizes_in(out))
        return SizesOfCall(tuple([_sizes_in(each) for each in (*args, *kwargs.values())]), _sizes_in(out))


def call_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> CallShapes:
    """Describe a call with the names and dtypes of its arguments, too, which takes several times longer."""
    if is_traced():
        return CallShapes()
    with functions_disabled():
        inputs = [*_of_arguments(module, args), *_of_keywords(kwargs)]
        results = list(_tensors(out, ""))
    shapes, outputs = [found.shape for found in inputs], [found.shape for found in results]
    return CallShapes(
        " ".join(map(str, inputs[:_MOST])) + (" ..." if len(inputs) > _MOST else ""),
        _listed(shapes),
        _listed(outputs),
        _batch(*(found[0] if found else None for found in (shapes, outputs))),
    )


def _batch(first: tuple[Any, ...] | None, result: tuple[Any, ...] | None) -> int | None:
    if not first or not result or len(first) < 2 or type(first[0]) is not int or type(result[0]) is not int:
        return None
    return first[0] if first[0] == result[0] else None


def _listed(shapes: Sequence[tuple[Any, ...] | None]) -> str:
    return ", ".join(map(_sizes, shapes[:_MOST])) + (", ..." if len(shapes) > _MOST else "")


def _sizes(shape: tuple[Any, ...] | None) -> str:
    return "nested" if shape is None else "x".join(map(str, shape)) or "scalar"


def _of_arguments(module: nn.Module, args: Sequence[Any]) -> Iterator[_Found]:
    names = _parameter_names(module) if args else []
    for place, value in enumerate(args):
        yield from _tensors(value, names[place] if place < len(names) else "")


def _of_keywords(kwargs: Mapping[str, Any]) -> Iterator[_Found]:
    for name, value in kwargs.items():
        yield from _tensors(value, name)


def _parameter_names(module: nn.Module) -> list[str]:
    """Return the names of the positional parameters of forward; none where Python does not know them."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return []
    return [each.name for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]


def _tensors(value: Any, name: str, depth: int = 0) -> Iterator[_Found]:
    """Yield the tensors in a value and in its lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield _Found(name, _shape(value), str(value.dtype).removeprefix("torch."))
    elif depth < _DEEP and type(value) in {list, tuple}:
        for place, each in enumerate(islice(value, _LONGEST)):
            yield from _tensors(each, f"{name}[{place}]" if name else "", depth + 1)
    elif depth < _DEEP and isinstance(value, dict):
        for key, each in list(islice(value.items(), _LONGEST)):
            yield from _tensors(each, f"{name}.{key}" if name else str(key), depth + 1)


def _sizes_in(value: Any, depth: int = 0) -> Sizes:
    """Return the shapes of what `_tensors` yields."""
    if isinstance(value, torch.Tensor):
        return _shape(value)
    if depth < _DEEP and type(value) in {list, tuple}:
        return tuple([_sizes_in(each, depth + 1) for each in value[:_LONGEST]])
    if depth < _DEEP and isinstance(value, dict):
        return tuple([_sizes_in(each, depth + 1) for each in list(islice(value.values(), _LONGEST))])
    return ()


def _leaves(sizes: Any) -> Iterator[torch.Size | None]:
    """Yield the shapes in nested tuples."""
    if sizes is None or isinstance(sizes, torch.Size):
        yield sizes
    elif isinstance(sizes, tuple):
        for each in sizes:
            yield from _leaves(each)


def _shape(tensor: torch.Tensor) -> torch.Size | None:
    """Return the shape of a tensor; None: it is nested, or a parameter that has no shape yet."""
    try:
        return None if tensor.layout is not _STRIDED and tensor.is_nested else tensor.shape
    except RuntimeError:
        return None
