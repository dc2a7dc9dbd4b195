"""Optimizer steps whose closure runs forward, and so materializes lazy modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import OpCounter


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_step_whose_closure_makes_the_parameters_steps_on_them(kind, by_name):
    found = []
    for dry in (False, True):
        model, x = nn.Sequential(nn.Linear(6, 6), nn.LazyLinear(6)), torch.ones(4, 6)
        optimizer = kind(list(model.parameters()), lr=0.1)

        def closure(model=model, optimizer=optimizer, x=x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        with OpCounter(model, dry_run=dry) as counter:
            for _ in range(2):
                optimizer.step(closure=closure) if by_name else optimizer.step(closure)
        found.append({phase: (total.macs, total.arith, total.calls) for phase, total in counter.by_phase().items()})
    assert found[1] == found[0]
