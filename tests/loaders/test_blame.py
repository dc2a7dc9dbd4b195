from __future__ import annotations

import re

import torch
from torch import nn

from opcount.loaders import blame


class Breaks(nn.Module):
    def forward(self, x):
        return self.helper(x)

    def helper(self, x):
        raise ValueError(f"got {tuple(x.shape)}")


def caught(model, *args):
    try:
        model(*args)
    except (ValueError, RuntimeError, TypeError, StopIteration) as error:
        return blame(error, model)
    raise AssertionError("the model was to raise")


def test_the_innermost_module_and_its_line_are_named():
    model = nn.Sequential(nn.Identity(), nn.Sequential(Breaks()))
    text = caught(model, torch.ones(2))
    assert re.fullmatch(r"ValueError in 1\.0 \(Breaks\) at .*test_blame\.py:\d+: got \(2,\)", text)


def test_an_error_inside_torch_names_the_module_of_torch_and_no_line_there():
    text = caught(nn.Sequential(nn.Linear(3, 3)), torch.ones(2))
    assert text.startswith("RuntimeError in 0 (Linear): ")


def test_wrong_arguments_are_the_models_own_error():
    text = caught(Breaks())
    assert text.startswith("TypeError in the model itself (Breaks): ")
    assert "missing 1 required positional argument" in text


def test_an_error_without_a_message_is_its_name():
    class Silent(nn.Module):
        def forward(self):
            raise StopIteration

    assert re.fullmatch(r"StopIteration in the model itself \(Silent\) at .*test_blame\.py:\d+", caught(Silent()))
