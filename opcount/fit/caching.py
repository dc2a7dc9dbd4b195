"""PyTorch's caching allocator for CUDA, as `c10/cuda/CUDACachingAllocator.cpp` has it: sizes alone, no memory.

A size is rounded up to 512 B. One of up to 1 MiB comes from the small pool, whose segments have 2 MiB; a larger one
from the large pool, in segments of 20 MiB below 10 MiB and else of its own size in steps of 2 MiB. The smallest free
block that is large enough is taken, of equal ones that with the lowest address. It is split if at least 512 B remain,
in the large pool more than 1 MiB; a freed block joins its free neighbours. When there is no room for a segment, those
that are wholly free are given back. These are the defaults: one stream, and no `PYTORCH_CUDA_ALLOC_CONF`.
"""

from __future__ import annotations

from bisect import bisect_left, insort

KiB, MiB = 1 << 10, 1 << 20

_LEAST = 512
"""Bytes that sizes are rounded to, and the least remainder of a small block that is a block of its own."""

SMALL = MiB
"""The largest size in the small pool, and the largest remainder of a large block that stays a part of it."""

_SMALL_SEGMENT, _LARGE_SEGMENT, _STEP = 2 * MiB, 20 * MiB, 2 * MiB
_OWN_SEGMENT = 10 * MiB
"""From this size on, a segment has the size of what is allocated."""


class OutOfMemoryError(Exception):
    """No room for a segment, even without those that are free."""


class Block:
    """Part of a segment.

    Attributes:
        address: Of its first byte.
        size: Its bytes.
        is_free: Whether it is cached.
        pool: Free blocks of its kind, as ``(size, address, block)``, sorted.
        before: The block in front of it in the segment; None: it is the first.
        behind: The block after it.
    """

    __slots__ = ("address", "before", "behind", "is_free", "pool", "size")

    def __init__(self, address: int, size: int, pool: Pool, before: Block | None, behind: Block | None) -> None:
        self.address, self.size, self.pool = address, size, pool
        self.before, self.behind = before, behind
        self.is_free = False


Pool = list[tuple[int, int, Block]]


class CachingAllocator:
    """The allocator of one device, with one stream.

    Args:
        capacity: Bytes for all segments; None: without a limit.

    Attributes:
        allocated: Bytes of the blocks that are in use, as ``torch.cuda.memory_allocated`` has them.
        reserved: Bytes of the segments, as ``torch.cuda.memory_reserved`` has them.
        most_allocated: The most bytes that were in use at once.
        most_reserved: The most bytes of segments.
        retries: Times that free segments were given back for want of room.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.allocated = self.reserved = self.most_allocated = self.most_reserved = self.retries = 0
        self._capacity = capacity
        self._small: Pool = []
        self._large: Pool = []
        self._end = _STEP

    def allocate(self, size: int) -> Block:
        """Return a block of at least so many bytes, which are positive.

        Raises:
            OutOfMemoryError: There is no room.
        """
        size = -(-size // _LEAST) * _LEAST
        pool = self._small if size <= SMALL else self._large
        at = bisect_left(pool, (size, -1))
        block = pool.pop(at)[2] if at < len(pool) else self._segment(size, pool)
        block.is_free = False
        remainder = block.size - size
        if remainder > SMALL or (remainder and pool is self._small):
            rest = Block(block.address + size, remainder, pool, block, block.behind)
            if rest.behind is not None:
                rest.behind.before = rest
            block.behind, block.size = rest, size
            self._cache(rest)
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Cache a block, joined with its free neighbours."""
        self.allocated -= block.size
        before, behind = block.before, block.behind
        if behind is not None and behind.is_free:
            self._uncache(behind)
            self._join(block, behind)
        if before is not None and before.is_free:
            self._uncache(before)
            self._join(before, block)
            block = before
        self._cache(block)

    @staticmethod
    def _cache(block: Block) -> None:
        block.is_free = True
        insort(block.pool, (block.size, block.address, block))

    @staticmethod
    def _uncache(block: Block) -> None:
        del block.pool[bisect_left(block.pool, (block.size, block.address))]

    @staticmethod
    def _join(block: Block, behind: Block) -> None:
        block.size += behind.size
        block.behind = behind.behind
        if block.behind is not None:
            block.behind.before = block

    def _segment(self, size: int, pool: Pool) -> Block:
        if size <= SMALL:
            segment = _SMALL_SEGMENT
        else:
            segment = _LARGE_SEGMENT if size < _OWN_SEGMENT else -(-size // _STEP) * _STEP
        if not self._has_room(segment):
            self.retries += 1
            for each in (self._small, self._large):
                self._give_back(each)
            if not self._has_room(segment):
                raise OutOfMemoryError(segment)
        self.reserved += segment
        self.most_reserved = max(self.most_reserved, self.reserved)
        self._end += segment
        return Block(self._end - segment, segment, pool, None, None)

    def _has_room(self, segment: int) -> bool:
        return self._capacity is None or self.reserved + segment <= self._capacity

    def _give_back(self, pool: Pool) -> None:
        """Give back the segments that are wholly free."""
        for entry in pool[:]:
            block = entry[2]
            if block.before is None and block.behind is None:
                pool.remove(entry)
                self.reserved -= block.size
