"""Helpers for tests of formulas for functions of autograd: asking by name, counting a whole call, sampling."""

from __future__ import annotations

from math import floor

import numpy as np
import torch

from opcount import OpCounter
from opcount.registry import BUILTIN


def forward(name, out, *args):
    """Return what the formula of a function says of a call that gave ``out``."""
    return BUILTIN.find([f"autograd.{name}"])[0].price(out, *args)


def backward(name, out, *args):
    """Return what the formula of its backward says."""
    return BUILTIN.find([f"autograd.{name}Backward"])[0].price(out, *args)


def wanting(*tensors):
    """Return the tensors as ones that need gradients."""
    return [tensor.requires_grad_() for tensor in tensors]


def sample(image, y, x):
    """Interpolate a map between its four neighbours, each times its weight; zero outside."""
    top, left = floor(y), floor(x)
    total = 0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - abs(y - row)) * (1 - abs(x - column))
        inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        # What lies outside is a zero that is multiplied all the same.
        neighbour = image[row, column] if inside else image[0, 0] - image[0, 0].value
        image[0, 0].meter.sums -= not inside
        total = neighbour * weight if isinstance(total, int) else total + neighbour * weight
    return total


def stand_in(name, forward_kernel, returns):
    """Make a function as extensions have them: outputs made by PyTorch and filled where nothing is seen.

    Args:
        name: The class's name.
        forward_kernel: ``(*args) -> shape`` of the output.
        returns: Which arguments get a gradient.
    """

    def run_forward(ctx, *args):
        ctx.shapes = [arg.shape if isinstance(arg, torch.Tensor) else None for arg in args]
        tensor = next(arg for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point())
        out = tensor.new_empty(forward_kernel(*args))
        np.copyto(out.numpy(), 1.0)
        return out

    def run_backward(ctx, grad):
        made = []
        for i, shape in enumerate(ctx.shapes):
            made.append(grad.new_zeros(shape) if i in returns and ctx.needs_input_grad[i] else None)
        return tuple(made)

    members = {"forward": staticmethod(run_forward), "backward": staticmethod(run_backward)}
    return type(name, (torch.autograd.Function,), members)


def count(function, *args):
    """Run a function forward and, where it can be, backward, under a strict counter."""
    with OpCounter(strict=True) as counter:
        out = function.apply(*args)
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    return counter


def counted(function, *tensors):
    """Return the arithmetic of PyTorch's own operators, forward and, where there are gradients, backward."""
    for tensor in tensors:
        tensor.grad = None
    with OpCounter() as counter:
        out = function(*tensors)
        if out.requires_grad:
            out.backward(torch.ones_like(out))
    phases = counter.by_phase()
    return [phases[phase].arith if phase in phases else 0 for phase in ("forward", "backward")]


def both(name, out, *args):
    """Return the arithmetic of a function, forward and backward, by its formulas."""
    return [forward(name, out, *args).arith, backward(name, out, *args).arith]
