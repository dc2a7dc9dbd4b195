"""Known values of small tensors, valid until something unknown is written to their memory.

Values are kept by storage, and so for all views of it at once. A real tensor is its own value. A dry run does not write
to tensors of the program; after an operator that would have, their value differs from their memory. Integers that the
dry run computes are real tensors: programs decide by them, and read them in ways that no dispatch mode sees. So nothing
unknown may be written to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from opcount._torch.fake import FakeTensor
from opcount._torch.functorch import is_wrapped
from opcount._torch.tensors import revived, sparse_values, storage_key
from opcount.dryrun.tensors import DryTensor

if TYPE_CHECKING:
    from torch import UntypedStorage

    from opcount.dryrun.fake_mode import DryMode

LIMIT = 1 << 16
"""Largest number of elements of a tensor whose value is kept, and of arguments from which a result is computed."""

FEW = 1 << 12
"""Largest number of elements of arguments from which a result of unknown size is computed."""

INTEGERS = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

VALUE = "value_of_the_original"
"""Attribute of a skeleton's tensor that holds the value of a small original."""

_SWEEP = 1024
_LARGEST_ITEM = 16

_NAN_BYTE = 0xFF
"""Each floating-point number of such bytes is NaN."""


class Values:
    """Store of known values; call its methods with dispatch and autograd disabled.

    Args:
        mode: Fake tensor mode of the dry run.
    """

    def __init__(self, mode: DryMode) -> None:
        self._mode = mode
        self._kept: dict[int, tuple[StorageWeakRef, UntypedStorage | None]] = {}
        self._borrowed: set[int] = set()
        self._ours: dict[int, tuple[StorageWeakRef, int]] = {}
        self._sweep_at = _SWEEP

    def adopt(self, tensor: Tensor) -> Tensor:
        """Allow writes to a real tensor that the dry run has made."""
        self.adopt_memory(tensor.untyped_storage())
        return tensor

    def adopt_memory(self, storage: UntypedStorage) -> None:
        """Allow writes to a storage that was made inside."""
        if len(self._ours) > self._sweep_at:
            self._ours = {key: ours for key, ours in self._ours.items() if not ours[0].expired()}
        self._ours[storage_key(storage)] = (StorageWeakRef(storage), storage.nbytes())

    def of(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor, or None if it is unknown."""
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
            return tensor.detach().cpu()
        return None if kept[1] is None else _view(kept[1], tensor)

    def writable(self, tensor: Tensor) -> Tensor | None:
        """Return the value of a tensor for a write, or None if it is unknown."""
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
        """Use a real tensor as the value of a new fake one, until a write."""
        if real.storage_offset():
            if real.numel() <= LIMIT:
                self.keep(fake, real)
            return
        storage = fake.untyped_storage()
        self._keep(storage, real.untyped_storage())
        self._borrowed.add(storage_key(storage))
        fake.known = True

    def blank(self, tensor: Tensor) -> Tensor | None:
        """Return a value to overwrite as a whole, or None if the tensor is a part of its memory, or of another run."""
        storage = tensor.untyped_storage()
        if tensor.numel() > LIMIT or tensor.numel() * tensor.itemsize != storage.nbytes():
            return None
        if type(tensor) is DryTensor and tensor.fake_mode is not self._mode:
            return None
        self._keep(storage, torch.UntypedStorage(storage.nbytes()))
        if type(tensor) is DryTensor:
            tensor.known = True
        return self.of(tensor)

    def keep(self, fake: DryTensor, value: Tensor) -> None:
        """Store the value of a new fake tensor."""
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
        """Forget the value of a tensor, and of all that share its memory."""
        if type(tensor) is DryTensor:
            if tensor.known or tensor.numel() <= LIMIT:  # what is larger is no view of what is known
                self._kept.pop(storage_key(tensor.untyped_storage()), None)
                tensor.known = False
        elif _has_storage(tensor):
            self._keep(tensor.untyped_storage(), None)

    def spoil(self) -> None:
        """Fill real memory that the dry run has made, and whose values are unknown, with NaN, for who keeps it."""
        for key, (reference, _) in self._ours.items():
            storage = revived(reference.cdata) if key in self._kept and self._kept[key][1] is None else None
            if storage is not None:
                storage.fill_(_NAN_BYTE)

    def may_know(self, tensor: Tensor) -> bool:
        """Return whether a tensor is real, or something is known of its memory."""
        return type(tensor) is not DryTensor or tensor.known or storage_key(tensor.untyped_storage()) in self._kept

    def is_ours(self, tensor: Tensor) -> bool:
        """Return whether the dry run has made a real tensor."""
        return bool(self._ours) and _has_storage(tensor) and self.is_our_memory(tensor.untyped_storage())

    def is_our_memory(self, storage: UntypedStorage) -> bool:
        """Return whether the dry run has made a storage."""
        return storage_key(storage) in self._ours

    def is_written(self, tensor: Tensor) -> bool:
        """Return whether the value of a real tensor differs from its memory."""
        if tensor.layout is not torch.strided:
            return self._lacks_values(tensor)
        return bool(self._kept) and _has_storage(tensor) and storage_key(tensor.untyped_storage()) in self._kept

    def _lacks_values(self, sparse: Tensor) -> bool:
        """Return whether a real sparse tensor has known indices and unknown values."""
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
    """Return the stored values of a real sparse tensor, or None for another layout."""
    if tensor.layout is torch.sparse_coo:
        return sparse_values(tensor)
    return tensor.values() if tensor.layout in _COMPRESSED else None


def _view(storage: Any, like: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=like.dtype, device="cpu")
    return empty.set_(storage, like.storage_offset(), like.shape, like.stride())


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not (tensor.is_nested or is_wrapped(tensor))
