"""Fake tensors that stand for real ones: same shape, strides and dtype, no memory."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from opcount.dryrun.fakes import Fakes


_NO_TENSORS = {int, float, bool, str, tuple, set, dict, OrderedDict, type(None)}
"""Types of attributes that are left as they are; the tables of parameters and buffers are seen to apart."""


class Twins:
    """One fake tensor for each real one."""

    def __init__(self, fakes: Fakes) -> None:
        self._fakes = fakes
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the twin of a tensor, made at its first use; a fake tensor is its own."""
        if type(tensor) is FakeTensor:
            return tensor
        known = self._twins.get(id(tensor))
        if known is None or known[0] is not tensor:
            known = self._twins[id(tensor)] = (tensor, self._fakes.like(tensor))
        return known[1]

    @contextmanager
    def replacing(self, model: nn.Module) -> Iterator[None]:
        """Give a model fake parameters and buffers; it is as before afterwards, attributes set inside included."""
        modules = list(model.modules())
        before = [_Before(module) for module in modules]
        try:
            for module in modules:
                self._replace(module)
            yield
        finally:
            for state in before:
                state.restore()

    def _replace(self, module: nn.Module) -> None:
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = self.of(tensor)  # type: ignore[assignment]
        attributes = vars(module)
        for name, value in attributes.items():
            if type(value) in _NO_TENSORS:
                continue
            if isinstance(value, Tensor):
                attributes[name] = self.of(value)
            elif isinstance(value, list) and any(isinstance(v, Tensor) for v in value):
                attributes[name] = [self.of(v) if isinstance(v, Tensor) else v for v in value]


class _Before:
    """A module's attributes as they were."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._attributes = dict(vars(module))
        self._parameters = dict(module._parameters)
        self._buffers = dict(module._buffers)

    def restore(self) -> None:
        """Put back parameters and buffers, and every attribute that now holds something fake."""
        _refill(self._module._parameters, self._parameters)
        _refill(self._module._buffers, self._buffers)
        attributes, before = vars(self._module), self._attributes
        changed = [name for name, value in attributes.items() if before.get(name, self) is not value]
        for name in changed:
            if _is_fake(attributes[name]):
                if name in before:
                    attributes[name] = before[name]
                else:
                    del attributes[name]


def _refill(group: dict[str, Any], before: dict[str, Any]) -> None:
    group.clear()
    group.update(before)


def _is_fake(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_fake, value))
    if isinstance(value, dict):
        return any(map(_is_fake, value.values()))
    return isinstance(value, FakeTensor)
