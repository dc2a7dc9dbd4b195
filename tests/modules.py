"""A module for tests that is made of a function and its children."""

from __future__ import annotations

from torch import nn


class Calls(nn.Module):
    """Calls a function with itself and its arguments; modules, parameters and other values become its attributes."""

    def __init__(self, function, **attributes):
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)
