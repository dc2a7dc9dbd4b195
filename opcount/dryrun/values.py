"""Values of small tensors, for as long as nothing unknown is written to their memory.

What is known is kept for each piece of memory, and so for all views of it at once. A real tensor is its own value.
Nothing in a dry run writes to those of the program; once something would have, their memory has another value than it
holds. Integers that the dry run computes are real tensors: programs decide by them, and read them in ways that no
dispatch mode sees. So nothing unknown may be written to them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from opcount._torch.dispatch import dispatch_disabled
from opcount._torch.fake import FakeTensor
from opcount._torch.tensors import sparse_values, storage_key
from opcount.dryrun.tensors import DryTensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import UntypedStorage

LIMIT = 4096
"""Elements of the largest tensor whose value is computed."""

LIMIT_OF_INTEGERS = 1 << 16
"""Elements of all integers together of which a result is computed: a batch of tokens, and what is asked of it."""

VALUE = "value_of_the_original"
"""Attribute in which a skeleton's tensor keeps the value of a small one."""

_SWEEP = 1024
_LARGEST_ITEM = 16


@contextmanager
def for_real() -> Iterator[None]:
    """Compute with real tensors, unseen by dispatch modes and by autograd."""
    with dispatch_disabled(), torch.inference_mode(mode=False), torch.no_grad():
        yield


class Values:
    """Finds, keeps and forgets values; call it inside of `for_real`."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[StorageWeakRef, UntypedStorage | None]] = {}
        self._borrowed: set[int] = set()
        self._ours: dict[int, tuple[StorageWeakRef, int]] = {}
        self._sweep_at = _SWEEP

    def adopt(self, tensor: Tensor) -> Tensor:
        """Let the dry run write to a real tensor that it has made."""
        if len(self._ours) > self._sweep_at:
            self._ours = {key: ours for key, ours in self._ours.items() if not ours[0].expired()}
        storage = tensor.untyped_storage()
        self._ours[storage_key(storage)] = (StorageWeakRef(storage), storage.nbytes())
        return tensor

    def of(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor; None: it is not known."""
        if type(tensor) is DryTensor:
            if not tensor.known:
                return None
            kept = self._kept.get(storage_key(tensor.untyped_storage()))
            return None if kept is None or kept[1] is None else _view(kept[1], tensor)
        if isinstance(tensor, FakeTensor):
            return None
        if tensor.layout is not torch.strided:
            return None if self._lacks_values(tensor) else tensor
        kept = self._kept.get(storage_key(tensor.untyped_storage())) if _has_storage(tensor) else None
        if kept is None:
            return tensor.detach()
        return None if kept[1] is None else _view(kept[1], tensor)

    def writable(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor to be written to; None: it is not known."""
        value = self.of(tensor)
        if value is None or not _has_storage(tensor):
            return value
        storage = tensor.untyped_storage()
        if storage_key(storage) in self._ours:
            return value
        lent = self._kept[storage_key(storage)][1] if storage_key(storage) in self._kept else storage
        if lent is not storage and storage_key(storage) not in self._borrowed:
            return value
        if lent is None or lent.nbytes() > LIMIT * _LARGEST_ITEM:
            return None
        self._keep(storage, lent.clone().cpu())
        return self.of(tensor)

    def borrow(self, fake: DryTensor, real: Tensor) -> None:
        """Let a real tensor be the value of a new fake one, until it is written to."""
        if real.storage_offset():
            if real.numel() <= LIMIT:
                self.keep(fake, real)
            return
        storage = fake.untyped_storage()
        self._keep(storage, real.untyped_storage())
        self._borrowed.add(storage_key(storage))
        fake.known = True

    def blank(self, tensor: Tensor) -> Tensor | None:
        """Return a value to be overwritten as a whole; None: the tensor is not all that is in its memory."""
        storage = tensor.untyped_storage()
        if tensor.numel() > LIMIT or tensor.numel() * tensor.itemsize != storage.nbytes():
            return None
        self._keep(storage, torch.UntypedStorage(storage.nbytes()))
        if type(tensor) is DryTensor:
            tensor.known = True
        return self.of(tensor)

    def keep(self, fake: DryTensor, value: Tensor) -> None:
        """Remember the value of a new fake tensor."""
        storage = fake.untyped_storage()
        if value.stride() == fake.stride() and not value.storage_offset():
            self._keep(storage, value.untyped_storage())
        else:
            self._keep(storage, torch.UntypedStorage(storage.nbytes()))
            kept = _view(self._kept[storage_key(storage)][1], fake)
            for dim in (d for d, stride in enumerate(fake.stride()) if not stride and fake.shape[d]):
                kept, value = kept.narrow(dim, 0, 1), value.narrow(dim, 0, 1)  # an expanded one is written once
            kept.copy_(value)
        fake.known = True

    def forget(self, tensor: Tensor) -> None:
        """Forget the value of a tensor that something unknown was written to, and of all that share its memory."""
        if type(tensor) is DryTensor:
            if tensor.known or tensor.numel() <= LIMIT:  # what is larger is no view of what is known
                self._kept.pop(storage_key(tensor.untyped_storage()), None)
                tensor.known = False
        elif _has_storage(tensor):
            self._keep(tensor.untyped_storage(), None)

    def is_ours(self, tensor: Tensor) -> bool:
        """Tell whether the dry run has made a real tensor."""
        return bool(self._ours) and _has_storage(tensor) and self.is_our_memory(tensor.untyped_storage())

    def is_our_memory(self, storage: UntypedStorage) -> bool:
        """Tell whether the dry run has made a piece of memory."""
        return storage_key(storage) in self._ours

    def is_written(self, tensor: Tensor) -> bool:
        """Tell whether a real tensor has another value than its memory holds."""
        if tensor.layout is not torch.strided:
            return self._lacks_values(tensor)
        return bool(self._kept) and _has_storage(tensor) and storage_key(tensor.untyped_storage()) in self._kept

    def _lacks_values(self, sparse: Tensor) -> bool:
        """Tell whether a real sparse tensor has the pattern alone of what it stands for."""
        values = stored_values(sparse) if self._kept else None
        return values is not None and self.of(values) is None

    def _keep(self, storage: UntypedStorage, value: UntypedStorage | None) -> None:
        if len(self._kept) > self._sweep_at:
            self._kept = {key: kept for key, kept in self._kept.items() if not kept[0].expired()}
            self._sweep_at = max(_SWEEP, 2 * len(self._kept))
        self._kept[storage_key(storage)] = (StorageWeakRef(storage), value)
        self._borrowed.discard(storage_key(storage))


_COMPRESSED = frozenset({torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc})


def stored_values(tensor: Tensor) -> Tensor | None:
    """Return the values that a real sparse tensor stores; None: it is of another layout."""
    if tensor.layout is torch.sparse_coo:
        return sparse_values(tensor)
    return tensor.values() if tensor.layout in _COMPRESSED else None


def _view(storage: Any, like: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=like.dtype, device="cpu")
    return empty.set_(storage, like.storage_offset(), like.shape, like.stride())


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested
