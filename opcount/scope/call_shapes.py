"""Description of a call of a module as text: names, shapes and dtypes of its tensors, and no tensors."""

from __future__ import annotations

import inspect
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from opcount._torch.dispatch import functions_disabled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST = 16
"""Tensors of a call that are described; a cache may hold hundreds."""

_LONGEST = 64
"""Items of a container that are looked at."""

_DEEP = 3
"""Containers inside of containers that are looked into."""


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
    """A call that took one tensor and returned one, to be made text when a profile is: most are none's business before.

    Attributes:
        inputs: Shape of the argument.
        outputs: Shape of the result.
        arguments: Nothing.
        batch: Not asked for.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    arguments: str = ""
    batch: int | None = None

    def described(self) -> CallShapes:
        """Return the call as text."""
        return CallShapes("", _sizes(self.inputs), _sizes(self.outputs))


class _Found(NamedTuple):
    name: str
    shape: tuple[Any, ...] | None
    dtype: str

    def __str__(self) -> str:
        text = f"{_sizes(self.shape)}:{self.dtype}"
        return f"{self.name}={text}" if self.name else text


def shapes_of(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> CallShapes | SizesOfCall:
    """Return the shapes of a call: nothing while TorchScript traces, which would record that they were asked for."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call, unused-ignore]
        return CallShapes()
    with functions_disabled():  # what is asked of a tensor is no business of the program's own modes
        if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor) and isinstance(out, torch.Tensor):
            try:
                return SizesOfCall(args[0].shape, out.shape)
            except RuntimeError:  # nested, or a parameter that has no shape yet
                pass
        given = args[0] if len(args) == 1 and not kwargs else [args, kwargs]
        return CallShapes("", _listed(list(_tensors(given, "", -1))), _listed(list(_tensors(out, "", -1))))


def call_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> CallShapes:
    """Describe a call with the names and dtypes of its arguments, too, which takes several times longer."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call, unused-ignore]
        return CallShapes()
    with functions_disabled():
        inputs = [*_of_arguments(module, args), *_of_keywords(kwargs)]
        outputs = list(_tensors(out, ""))
    shapes = [found[0].shape if found else None for found in (inputs, outputs)]
    return CallShapes(
        " ".join(map(str, inputs[:_MOST])) + (" ..." if len(inputs) > _MOST else ""),
        _listed(inputs),
        _listed(outputs),
        _batch(*shapes),
    )


def _batch(first: tuple[Any, ...] | None, result: tuple[Any, ...] | None) -> int | None:
    if not first or not result or len(first) < 2 or type(first[0]) is not int or type(result[0]) is not int:
        return None
    return first[0] if first[0] == result[0] else None


def _listed(found: list[_Found]) -> str:
    return ", ".join(_sizes(each.shape) for each in found[:_MOST]) + (", ..." if len(found) > _MOST else "")


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
        shape = None if value.is_nested or nn.parameter.is_lazy(value) else tuple(value.shape)
        yield _Found(name, shape, str(value.dtype).removeprefix("torch."))
    elif depth < _DEEP and type(value) in {list, tuple}:
        for place, each in enumerate(islice(value, _LONGEST)):
            yield from _tensors(each, f"{name}[{place}]" if name else "", depth + 1)
    elif depth < _DEEP and isinstance(value, dict):
        for key, each in list(islice(value.items(), _LONGEST)):
            yield from _tensors(each, f"{name}.{key}" if name else str(key), depth + 1)
