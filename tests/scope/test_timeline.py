"""A timeline answers as a plain list of intervals does, in whatever order it is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opcount.scope.frame import Frame
from opcount.scope.timeline import Timeline

FRAMES = [Frame(name) for name in "abc"] + [None]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("mark"), st.integers(0, 5), st.integers(0, len(FRAMES) - 1)),
        st.tuples(st.just("find"), st.integers(0, 120), st.just(0)),
        st.tuples(st.just("forget"), st.just(0), st.just(0)),
    ),
    max_size=120,
)


def owner(marks, number):
    """Look a number up the plain way: the last mark at or below it."""
    found = None
    for bound, frame in marks:
        if bound <= number:
            found = frame
    return found


@given(steps)
def test_finds_what_was_marked(steps):
    timeline, marks, now = Timeline(), [], 0
    for kind, number, frame in steps:
        if kind == "mark":
            now += number
            timeline.mark(now, FRAMES[frame])
            marks.append((now, FRAMES[frame]))
        elif kind == "forget":
            timeline.forget()
            marks.clear()
        elif timeline.below <= number < timeline.above:  # as Scope asks: what was found last, or else find
            assert timeline.found is owner(marks, number) is not None
        else:
            assert timeline.find(number) is owner(marks, number)


def test_frames_that_follow_themselves_take_no_room():
    timeline = Timeline()
    for number in range(1000):
        timeline.mark(number, FRAMES[0])
    assert len(timeline.bounds) == 1


def test_a_whole_backward_is_found_backwards_and_at_random():
    timeline = Timeline()
    for number in range(0, 3000, 3):
        timeline.mark(number, FRAMES[number % 2])
    for number in [*range(2999, -1, -1), *((7919 * i) % 3000 for i in range(3000))]:
        assert timeline.find(number) is FRAMES[(number - number % 3) % 2]
