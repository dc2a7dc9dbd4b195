"""Every product of every training program is charged to the module and the phase that owe it."""

from __future__ import annotations

import pytest

from opcount import OpCounter
from tests.scope.ledger import ledger
from tests.scope.programs import PROGRAMS


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch makes its forward-mode rules with it
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_product_is_charged_to_its_module_and_phase(name):
    model, run, owed = PROGRAMS[name]()
    with OpCounter(model) as c:
        run()
    assert ledger(c) == owed
    assert c.macs == sum(owed.values())
    assert not c.coverage.unattributed


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", PROGRAMS)
def test_counters_inside_each_other_say_the_same(name):
    model, run, owed = PROGRAMS[name]()
    with OpCounter(model) as outer, OpCounter(model) as inner:
        run()
    assert ledger(outer) == ledger(inner) == owed


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", PROGRAMS)
def test_entering_a_counter_again_adds_the_same_once_more(name):
    model, run, owed = PROGRAMS[name]()
    c = OpCounter(model)
    for _ in range(3):
        with c:
            run()
    assert ledger(c) == {key: 3 * macs for key, macs in owed.items()}
