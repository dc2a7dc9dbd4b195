"""What keeps a dry run from being, without doubt, what a real run is: found before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules_in_general
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
_NOT_PLAIN_PYTHON = ("torch.nn.parallel.", "torch.distributed.", "torch._dynamo.", "torch.ao.", "torchao.")
_PLAIN = (Tensor, nn.Parameter, nn.Buffer) if hasattr(nn, "Buffer") else (Tensor, nn.Parameter)
_HOME = {"cpu", "meta"}


def obstacle(model: nn.Module, *inputs: object) -> str:
    """Return why a dry run of a model could differ from a real one, or leave something behind; empty: it could not.

    Values that the model asks for are found when it runs, not here.
    """
    if torch._C._len_torch_dispatch_stack():
        return "another dispatch mode is active"
    if modules_in_general._global_forward_hooks or modules_in_general._global_forward_pre_hooks:
        return "hooks on all modules are set"
    return _obstacle_among(_tensors(inputs)) or next(filter(None, map(_obstacle_in, model.modules())), "")


def _obstacle_among(tensors: Iterable[Tensor | None]) -> str:
    for tensor in tensors:
        if tensor is not None and not _is_plain(tensor):
            return f"a tensor is a {type(tensor).__name__} in the {tensor.layout} layout on {tensor.device}"
    return ""


def _obstacle_in(module: nn.Module) -> str:
    kind = type(module)
    name = kind.__name__
    if isinstance(module, torch.jit.ScriptModule) or kind.__module__.startswith(_NOT_PLAIN_PYTHON):
        return f"{name} runs more than Python code"
    if module._forward_hooks or module._forward_pre_hooks:
        return f"{name} has hooks"
    if isinstance(module, _FAST_PATHS) and _may_be_fused(module):
        return f"{name} may run as one fused operator"
    return _obstacle_among(module._parameters.values()) or _obstacle_among(module._buffers.values())


def _may_be_fused(module: nn.Module) -> bool:
    """Tell whether the fast path is open, whose children are never called: gradients or training close it."""
    if module.training or not torch.backends.mha.get_fastpath_enabled():
        return False
    return not (torch.is_grad_enabled() and all(p.requires_grad for p in module.parameters()))


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in _PLAIN or is_lazy(tensor) or tensor.device.type not in _HOME:
        return False
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_complex())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
