"""The allocator's rules against a naive allocator, and against cases that are computed by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from opcount.fit.caching import Block, CachingAllocator, OutOfMemoryError
from tests.fit.naive_allocator import MiB, NaiveAllocator

SIZES = st.one_of(
    st.integers(1, 5000),
    st.integers(MiB - 600, MiB + 600),
    st.integers(1, 30 * MiB),
    st.integers(10 * MiB - 600, 10 * MiB + 600),
)
PROGRAMS = st.lists(st.one_of(st.tuples(st.just("allocate"), SIZES), st.tuples(st.just("free"), st.integers(0, 99))))


@given(PROGRAMS, st.one_of(st.none(), st.integers(1, 50).map(lambda n: 2 * n * MiB)))
def test_a_program_has_the_segments_of_a_naive_allocator(program: list[tuple[str, int]], capacity: int | None) -> None:
    allocator, naive = CachingAllocator(capacity), NaiveAllocator(capacity)
    alive: list[tuple[int, int, Block]] = []
    for step, (what, number) in enumerate(program):
        if what == "allocate":
            has_room = naive.allocate(step, number)
            try:
                alive.append((step, number, allocator.allocate(number)))
            except OutOfMemoryError:
                assert not has_room
                break
            assert has_room
        elif alive:
            owner, _, block = alive.pop(number % len(alive))
            allocator.free(block)
            naive.free(owner)
        assert allocator.reserved == naive.reserved
        assert allocator.allocated == naive.allocated
        assert allocator.reserved >= allocator.allocated >= sum(size for _, size, _ in alive)
        assert allocator.reserved % (2 * MiB) == allocator.allocated % 512 == 0
        assert capacity is None or allocator.reserved <= capacity
        places = sorted((block.address, block.size) for *_, block in alive)
        assert all(start + size <= other for (start, size), (other, _) in pairwise(places))
    assert allocator.retries == naive.retries


def sizes_of(*sizes: int) -> tuple[int, int]:
    """Return the bytes in use and the bytes of segments after some allocations."""
    allocator = CachingAllocator()
    for size in sizes:
        allocator.allocate(size)
    return allocator.allocated, allocator.reserved


def test_sizes_are_rounded_and_segments_follow_from_them() -> None:
    assert sizes_of(1) == (512, 2 * MiB)
    assert sizes_of(513, 512) == (1024 + 512, 2 * MiB)
    assert sizes_of(MiB, MiB, 1) == (2 * MiB + 512, 4 * MiB)  # two of 1 MiB fill a segment of the small pool
    assert sizes_of(MiB + 1) == (MiB + 512, 20 * MiB)
    assert sizes_of(10 * MiB - 512) == (10 * MiB - 512, 20 * MiB)
    assert sizes_of(10 * MiB) == (10 * MiB, 10 * MiB)
    assert sizes_of(10 * MiB + 1) == (10 * MiB + 512, 12 * MiB)
    assert sizes_of(11 * MiB) == (12 * MiB, 12 * MiB)  # the 1 MiB that remains is not split off


def test_a_remainder_of_up_to_1_mib_stays_with_a_large_block() -> None:
    allocator = CachingAllocator()
    first = allocator.allocate(9 * MiB)  # of 20
    allocator.allocate(9 * MiB)
    assert allocator.allocated == 18 * MiB  # 2 MiB remain free
    allocator.free(first)
    assert allocator.allocate(8 * MiB).size == 9 * MiB
    assert allocator.reserved == 20 * MiB


def test_the_smallest_block_is_taken_and_neighbours_are_joined() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(4 * MiB) for _ in range(5)]  # of one segment of 20 MiB
    for block in (blocks[0], blocks[1], blocks[3]):
        allocator.free(block)
    assert allocator.allocate(3 * MiB + MiB // 2).address == blocks[3].address  # 4 MiB rather than 8
    assert allocator.allocate(8 * MiB).address == blocks[0].address
    assert allocator.reserved == 20 * MiB


def test_free_segments_are_given_back_before_there_is_no_room() -> None:
    allocator = CachingAllocator(capacity=40 * MiB)
    allocator.free(allocator.allocate(30 * MiB))
    allocator.allocate(31 * MiB)
    assert (allocator.retries, allocator.reserved, allocator.most_reserved) == (1, 32 * MiB, 32 * MiB)
