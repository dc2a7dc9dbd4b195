"""The account of live bytes against one that copies all rows at each new peak."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opcount.memory.ledger import Ledger, LiveRow

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "move", "find", "restart"]), st.integers(0, 5), st.integers(0, 99)),
    max_size=80,
)


@given(STEPS)
def test_the_breakdown_is_that_of_a_copy_at_each_new_peak(steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger()
    alive: list[tuple[LiveRow, int, int]] = []  # row, bytes, number of the allocation
    peak, copy = 0, dict[LiveRow, int]()
    for what, place, number in steps:
        row = ledger.row(place)
        at = number % len(alive) if alive else 0
        if what == "add":
            alive.append((row, number, ledger.add(row, number)))
        elif what == "find":
            ledger.find(row, number)
            alive.append((row, number, 0))
            peak += number
            copy[row] = copy.get(row, 0) + number
        elif what == "remove" and alive:
            ledger.remove(*alive.pop(at)[:2])
        elif what == "move" and alive:
            before, size, event = alive[at]
            ledger.move(before, row, size, event)
            alive[at] = row, size, event
            if event <= ledger.peak_event:
                copy[before] -= size
                copy[row] = copy.get(row, 0) + size
        elif what == "restart":
            ledger.restart()
        live = sum(size for _, size, _ in alive)
        assert ledger.base + ledger.live == live
        if live > peak or what == "restart":
            peak, copy = live, {}
            for owner, size, _ in alive:
                copy[owner] = copy.get(owner, 0) + size
        assert ledger.base + ledger.peak == peak
        rows = {row: ledger.at_peak(row) for row in ledger.rows.values()}
        assert {row: size for row, size in rows.items() if size} == {row: size for row, size in copy.items() if size}


def test_the_curve_stays_short_and_keeps_the_peak() -> None:
    ledger = Ledger()
    row = ledger.row("a")
    for size in range(3000):
        ledger.add(row, size)
        if size % 7:
            ledger.remove(row, size)
    curve = ledger.curve()
    assert 128 <= len(curve) <= 256
    assert max(curve) == ledger.peak
    assert list(curve) == sorted(curve)  # it only grows here
