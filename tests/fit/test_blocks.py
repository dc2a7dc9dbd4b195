"""The blocks that a model repeats, and checkpoints around modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import InputError
from opcount.loaders.blocks import as_pattern, checkpoint_modules, matching, repeated_blocks
from tests.memory.models import Decoder, resnet


def test_blocks_are_the_outermost_modules_of_one_class_with_most_parameters() -> None:
    assert repeated_blocks(Decoder()) == ["blocks.0", "blocks.1", "blocks.2"]
    assert repeated_blocks(resnet()) == ["4", "5"]
    assert repeated_blocks(nn.Linear(2, 2)) == repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []
    assert as_pattern(repeated_blocks(Decoder())) == "blocks.*"


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    assert matching(Decoder(), "blocks.*") == ["blocks.0", "blocks.1", "blocks.2"]
    assert matching(Decoder(), "**") == ["tokens", "blocks", "head"]
    with pytest.raises(InputError, match=r"got 'layers\.\*', which matches none\. Modules begin with: tokens"):
        matching(Decoder(), "layers.*")


def test_a_checkpointed_module_keeps_its_input_alone_and_has_the_same_gradients() -> None:
    model, ids = Decoder(fused=False), torch.randint(97, (2, 12))
    torch.manual_seed(0)  # of dropout
    model(ids).sum().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    checkpoint_modules(model, repeated_blocks(model))
    torch.manual_seed(0)
    with OpCounter(model, memory=True) as c:
        model(ids).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(expected, (p.grad for p in model.parameters()), strict=True))
    width = 4 * 2 * 12 * 32
    made = c.memory.saved_by_module()
    assert {path: made[path] for path in ("tokens", "blocks.0", "blocks.1", "blocks.2")} == dict.fromkeys(
        ("tokens", "blocks.0", "blocks.1", "blocks.2"), width
    )
    with torch.no_grad():
        assert model(ids).shape == (2, 12, 97)
