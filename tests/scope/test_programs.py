"""Every product of every training program is charged to the module and the phase that owe it."""

from __future__ import annotations

from collections import Counter

import pytest

from opcount import OpCounter
from tests.scope.programs import PROGRAMS


def charged(counter):
    """Return the MACs of each ``(path, phase)``."""
    totals = Counter()
    for record in counter.profile.records:
        totals[record.path, record.phase] += record.cost.macs
    return {key: macs for key, macs in totals.items() if macs}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch makes its forward-mode rules with it
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_product_is_charged_to_its_module_and_phase(name):
    model, run, owed = PROGRAMS[name]()
    with OpCounter(model) as c:
        run()
    assert charged(c) == owed
    assert c.macs == sum(owed.values())
    assert not c.coverage.unattributed


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", PROGRAMS)
def test_counters_inside_each_other_say_the_same(name):
    model, run, owed = PROGRAMS[name]()
    with OpCounter(model) as outer, OpCounter(model) as inner:
        run()
    assert charged(outer) == charged(inner) == owed


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", PROGRAMS)
def test_entering_a_counter_again_adds_the_same_once_more(name):
    model, run, owed = PROGRAMS[name]()
    c = OpCounter(model)
    for _ in range(3):
        with c:
            run()
    assert charged(c) == {key: 3 * macs for key, macs in owed.items()}
