"""The rules of PyTorch's caching allocator once more, as lists of pieces that are searched from end to end."""

from __future__ import annotations

from typing import NamedTuple

MiB = 1 << 20


class Piece(NamedTuple):
    start: int
    size: int
    owner: object
    """Name of the allocation that has it; None: it is free."""


class NaiveAllocator:
    """Segments as lists of pieces in the order of their addresses."""

    def __init__(self, capacity: int | None) -> None:
        self.segments: list[tuple[bool, list[Piece]]] = []
        self.capacity = capacity
        self.next = 0
        self.retries = 0

    @property
    def reserved(self) -> int:
        return sum(piece.size for _, pieces in self.segments for piece in pieces)

    @property
    def allocated(self) -> int:
        return sum(piece.size for _, pieces in self.segments for piece in pieces if piece.owner is not None)

    def allocate(self, owner: object, size: int) -> bool:
        while size % 512:
            size += 1
        is_small = size <= MiB
        free = [
            (piece.size, piece.start, number, at)
            for number, (small, pieces) in enumerate(self.segments)
            for at, piece in enumerate(pieces)
            if small is is_small and piece.owner is None and piece.size >= size
        ]
        if not free:
            if not self._add_segment(is_small, size):
                return False
            return self.allocate(owner, size)
        _, _, number, at = min(free)
        small, pieces = self.segments[number]
        start, length, _ = pieces[at]
        left = length - size
        if (small and left >= 512) or (not small and left > MiB):
            pieces[at : at + 1] = [Piece(start, size, owner), Piece(start + size, left, None)]
        else:
            pieces[at] = Piece(start, length, owner)
        return True

    def _add_segment(self, is_small: bool, size: int) -> bool:
        length = 2 * MiB if is_small else 20 * MiB
        if size >= 10 * MiB:
            length = size
            while length % (2 * MiB):
                length += 512
        if self.capacity is not None and self.reserved + length > self.capacity:
            self.retries += 1
            self.segments = [each for each in self.segments if any(piece.owner is not None for piece in each[1])]
            if self.reserved + length > self.capacity:
                return False
        self.segments.append((is_small, [Piece(self.next, length, None)]))
        self.next += length
        return True

    def free(self, owner: object) -> None:
        for _, pieces in self.segments:
            for at, piece in enumerate(pieces):
                if piece.owner == owner:
                    pieces[at] = piece._replace(owner=None)
            at = 1
            while at < len(pieces):
                before, piece = pieces[at - 1], pieces[at]
                if before.owner is None and piece.owner is None:
                    pieces[at - 1 : at + 1] = [Piece(before.start, before.size + piece.size, None)]
                else:
                    at += 1
