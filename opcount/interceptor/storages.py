"""The memory behind tensors, told apart for as long as somebody watches it."""

from __future__ import annotations

import gc
from ctypes import string_at
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from opcount._torch.dispatch import dispatch_disabled, subclass_functions_disabled
from opcount._torch.functorch import is_wrapped, unwrapped
from opcount._torch.tensors import (
    drop_weak_reference,
    is_dead,
    revived,
    sparse_indices,
    sparse_values,
    storage_key,
    weak_reference,
)
from opcount.interceptor.calls import is_fake

if TYPE_CHECKING:
    from collections.abc import Iterator

State = TypeVar("State")

_WIDTH = 32
"""Bytes that are looked at, at each of three places."""

_SWEEP = 1024
"""After so many more entries those of dead storages are dropped."""


def storage_of(tensor: Tensor) -> Any:
    """Return a tensor's storage; None where it has none of its own."""
    try:
        if type(tensor) is Tensor or type(tensor) is Parameter:
            return tensor.untyped_storage()
        with subclass_functions_disabled():  # a program's class is not to be asked
            return tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return None


def has_values(tensor: Tensor) -> bool:
    """Return whether there is memory with numbers in it."""
    kind = type(tensor)
    return not ((kind is not Tensor and is_fake(kind)) or tensor.is_meta)  # a fake one asks its mode for its device


def parts_of(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors that a tensor is made of: itself, but for sparse tensors, wrappers and the like."""
    while is_wrapped(tensor):
        tensor = unwrapped(tensor)
    flatten = getattr(type(tensor), "__tensor_flatten__", None)
    if flatten is not None and not is_fake(type(tensor)):
        for part in (getattr(tensor, name) for name in flatten(tensor)[0]):
            if isinstance(part, Tensor):
                yield from parts_of(part)
    elif _is_wrapper(tensor) and (held := [each for each in vars(tensor).values() if isinstance(each, Tensor)]):
        for part in held:
            yield from parts_of(part)
    elif tensor.layout is torch.strided:
        yield tensor
    elif has_values(tensor):
        yield from _of_sparse(tensor)


def _is_wrapper(tensor: Tensor) -> bool:
    """Return whether a tensor's class keeps the numbers in other tensors, as ``_make_wrapper_subclass`` says."""
    kind: Any = type(tensor)
    if kind is Tensor or kind is Parameter or kind.__torch_dispatch__ is Tensor.__torch_dispatch__ or is_fake(kind):
        return False
    storage = storage_of(tensor)
    try:
        return storage is None or (storage.nbytes() > 0 and storage.data_ptr() == 0)
    except RuntimeError:
        return True


def storages_of(tensor: Tensor) -> Iterator[Any]:
    """Yield the storages of the plain tensors that a tensor is made of."""
    for part in parts_of(tensor):
        storage = storage_of(part)
        if storage is not None:
            yield storage


def _of_sparse(tensor: Tensor) -> list[Tensor]:
    with dispatch_disabled():
        if tensor.layout is torch.sparse_coo:
            return [sparse_indices(tensor), sparse_values(tensor)]
        if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
            return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        if tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
            return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def weights() -> tuple[set[int], set[int]]:
    """Return the storages of all parameters and of all buffers that there are: a look at all objects of the process."""
    objects = gc.get_objects()
    parameters = [value for value in objects if issubclass(type(value), Parameter)]
    modules = [value for value in objects if issubclass(type(value), Module)]
    buffers = [buffer for module in modules for buffer in vars(module).get("_buffers", {}).values()]
    return _keys(parameters), _keys(buffers)


def _keys(tensors: list[Any]) -> set[int]:
    found = (storage_of(tensor) for tensor in tensors if isinstance(tensor, Tensor))
    return {storage_key(storage) for storage in found if storage is not None}


def revive(key: int) -> Any:
    """Return a storage by its weak reference; None if it is gone."""
    return revived(key)


def print_of(storage: Any) -> bytes | None:
    """Return some of the bytes of a storage on the CPU."""
    if storage is None or storage.device.type != "cpu":
        return None
    try:
        address = storage.data_ptr()
    except RuntimeError:  # a tensor of a class that keeps its numbers elsewhere
        return None
    if not address:
        return b""
    size = storage.nbytes()
    if size <= 3 * _WIDTH:
        return string_at(address, size)
    starts = (0, (size - _WIDTH) // 2, size - _WIDTH)
    return b"".join(string_at(address + start, _WIDTH) for start in starts)


class Storages(dict[int, State]):
    """Something about storages, by their address: no other storage has it while an entry is here, dead or alive."""

    def put(self, storage: Any, value: State) -> None:
        """Say something about a storage."""
        key = storage_key(storage)
        if key not in self:
            weak_reference(storage)
            if len(self) % _SWEEP == _SWEEP - 1:
                self.drop_dead()
        self[key] = value

    def drop(self, key: int) -> None:
        """Forget a storage."""
        if self.pop(key, None) is not None:
            drop_weak_reference(key)

    def drop_dead(self) -> None:
        """Forget the storages that are gone."""
        for key in [key for key in self if is_dead(key)]:
            self.drop(key)

    def drop_all(self) -> None:
        """Forget all storages."""
        for key in list(self):
            self.drop(key)
