"""Counts of the same programs by PyTorch's own ModuleTracker, through FlopCounterMode."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.scope.programs import PROGRAMS


def owed_by_module(owed):
    """Return what each module owes in all phases together, its own modules' work included."""
    totals = Counter()
    for (path, _phase), macs in owed.items():
        parts = path.split(".") if path else []
        for length in range(len(parts) + 1):
            totals[".".join(parts[:length])] += macs
    return totals


def told_by_module(mode):
    """Return what FlopCounterMode says of each module: ``Global`` is the whole, and paths begin with a class."""
    totals = Counter()
    for name, operators in mode.get_flop_counts().items():
        path = "" if name == "Global" else name.partition(".")[2]
        macs = sum(operators.values()) // 2
        if name == "Global" or path:
            totals[path] = macs
    return totals


def verdict(name):
    torch.manual_seed(0)
    _, run, owed = PROGRAMS[name]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with FlopCounterMode(display=False) as mode:
                run()
    except Exception:  # noqa: BLE001  (whatever it raises, the bare program does not)
        return "raises"
    return "right" if +told_by_module(mode) == +owed_by_module(owed) else "wrong"


TELLS = {
    "two_forwards_one_backward": "wrong",
    "called_twice": "wrong",
    "checkpoint_reentrant": "wrong",
    "checkpoint_not_reentrant": "wrong",
    "checkpoint_nested": "wrong",
    "opaque_outputs": "wrong",
    "keyword_only": "wrong",
    "recursion": "wrong",
    "module_in_a_tensor_hook": "wrong",
    "module_that_raises": "wrong",
    "functional_gradient": "raises",
    "gradient_inside_forward": "raises",
    "double_backward": "raises",
}
"""Programs that it gets wrong; opcount is right, on every program (`test_programs`)."""


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="what is told is that of PyTorch 2.13")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_module_tracker_says(name):
    assert verdict(name) == TELLS.get(name, "right")
