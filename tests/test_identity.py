"""Counting calls no audit hook of the program: libraries install ones that slow every call of ``id``."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from opcount.identity import identity

PROGRAM = """
import sys
import torch
from torch import nn
from opcount import OpCounter

asked = []

def hook(event, arguments):
    if event == "builtins.id":
        asked.append(sys._getframe(1).f_code)

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
model.register_buffer("number", torch.zeros(3))

def count():
    with OpCounter(model, dry_run={dry}) as c:
        loss = model(torch.ones(2, 3, 8, 8)).sum()
        loss.backward()
    return c.macs

counted = count()
sys.addaudithook(hook)
assert count() == counted
id(model)
assert asked
print(*sorted({{code.co_filename for code in asked if "opcount" in code.co_filename.split("site-packages")[-1]}}))
"""


@pytest.mark.parametrize("dry", [False, True])
def test_a_count_raises_no_audit_event_of_id(dry: bool) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(dry=dry)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_living_objects_have_numbers_of_their_own_whatever_their_hash() -> None:
    tensor = torch.ones(2)
    objects = [tensor, copy.copy(tensor), nn.Linear(2, 2), [], [], {}, {}, "a", 1, 1.5, int, len]
    assert len(set(map(identity, objects))) == len(objects)
    assert list(map(identity, objects)) == list(map(identity, objects))
