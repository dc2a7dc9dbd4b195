"""An oracle of traffic: arrays that note the addresses that naive loops read and write."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING

from opcount import OpCounter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


class Memory:
    """Bytes that loops have touched, by tensor: a read and a write of an address count once each."""

    def __init__(self) -> None:
        self.read: set[tuple[int, int]] = set()
        self.written: set[tuple[int, int]] = set()
        self._sizes: dict[int, int] = {}

    def of(self, tensor: torch.Tensor) -> Array:
        """Return a tensor as an array of this memory."""
        self._sizes[id(tensor)] = tensor.element_size()
        return Array(self, tensor)

    def bytes(self) -> tuple[int, int]:
        """Return the bytes read and written."""
        read, written = (sum(self._sizes[owner] for owner, _ in touched) for touched in (self.read, self.written))
        return read, written


class Array:
    """A tensor whose elements are looked at one by one."""

    def __init__(self, memory: Memory, tensor: torch.Tensor) -> None:
        self._memory = memory
        self._tensor = tensor
        self.shape = tuple(tensor.shape)

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices of all elements."""
        return product(*map(range, self.shape))

    def get(self, *index: int) -> None:
        """Read an element; indices beyond the first dimensions are broadcast from the right."""
        self._memory.read.add(self._address(index))

    def set(self, *index: int) -> None:
        """Write an element."""
        self._memory.written.add(self._address(index))

    def get_broadcast(self, index: tuple[int, ...]) -> None:
        """Read the element that stands for an index of a larger shape."""
        own = index[len(index) - len(self.shape) :]
        self.get(*(0 if size == 1 else i for i, size in zip(own, self.shape, strict=True)))

    def _address(self, index: tuple[int, ...]) -> tuple[int, int]:
        strides = self._tensor.stride()
        return id(self._tensor), sum(i * stride for i, stride in zip(index, strides, strict=True))


def traffic(operator: str, run, *, model=None, **options) -> tuple[int, int]:
    """Return the bytes read and written by one operator while a function runs."""
    with OpCounter(model, **options) as c:
        run()
    rows = [r for r in c.profile.records if r.operator == operator]
    assert rows, {r.operator for r in c.profile.records}
    return sum(r.bytes_read for r in rows), sum(r.bytes_written for r in rows)


@contextmanager
def counted(**options):
    """Count a region; yield a list that holds its traffic afterwards."""
    found: list[tuple[int, int]] = []
    with OpCounter(**options) as c:
        yield found
    found.append((c.bytes_read, c.bytes_written))
