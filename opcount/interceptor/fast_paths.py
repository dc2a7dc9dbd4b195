"""PyTorch's attention and encoder fast paths, counted as the modules that they stand for.

Without gradients one operator does the work of ``nn.MultiheadAttention`` or of a whole ``nn.TransformerEncoderLayer``,
and it is run as it is. What is charged, and to which submodule, is what these modules compute step by step: that is
found out once for each combination of shapes.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opcount._torch.dispatch import schema_of
from opcount._torch.functorch import in_transform
from opcount._torch.stand_ins import CASTS_KEEP_GRADIENTS, autocast_dtype, is_autocast_enabled
from opcount.interceptor.attention_steps import Attention, EncoderLayer, Masks
from opcount.interceptor.opening import before_modes, charge_as_steps, open_up
from opcount.interceptor.operator_steps import Autocast, OperatorSteps
from opcount.interceptor.plan import Plan, handler
from opcount.interceptor.stack import interceptors, without

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opcount.interceptor.operator_steps import StepRecorder
    from opcount.interceptor.plan import Handler, Mode

_ATTENTION = nn.MultiheadAttention.forward.__code__
_LAYER = nn.TransformerEncoderLayer.forward.__code__
_ENCODER = nn.TransformerEncoder.forward.__code__
_FAR = 32
"""Python frames from the handler of a fast path up to the ``forward`` that takes it, at most."""

_CALLED = ("self_attn", "dropout1", "linear1", "dropout", "linear2", "dropout2", "norm1", "norm2")
"""The submodules that ``nn.TransformerEncoderLayer`` calls step by step."""


class _FastPath:
    """Runs an operator, and charges the steps that it stands for; without any, what can be seen inside of it."""

    def __init__(self, read: Callable[[list[Any]], OperatorSteps | None]) -> None:
        self._read = read

    def __call__(self, mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rest = schema_of(func).arguments[len(args) :]
        arguments = [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]
        steps = None if in_transform() else self._read(arguments)
        if steps is None or not mode.counts_steps:
            return open_up(mode, plan, func, args, kwargs)
        return charge_as_steps(mode, plan, func, args, kwargs, steps._replace(autocast=_autocast_of(steps.device)))

    @staticmethod
    def plan_of_finished(plan: Plan, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        return plan.chosen(out, args, kwargs)


def _autocast_of(device: str) -> Autocast | None:
    """Return what autocast makes of the operands on the CPU; with others on, PyTorch takes no fast path."""
    with before_modes():
        if device != "cpu" or not is_autocast_enabled(device):
            return None
        return Autocast(
            autocast_dtype(device), gradients=CASTS_KEEP_GRADIENTS and not torch.is_inference_mode_enabled()
        )


def _attention(arguments: list[Any]) -> OperatorSteps | None:
    q, k, v, width, heads, *rest = arguments
    *weights, mask, need_weights, average, mask_type = rest
    if not _are_plain([q, k, v]):
        return None
    local = _locals_of(_ATTENTION)
    masks = _masks_of(local, "attn_mask", "key_padding_mask") if local else _masks_by_type(mask, mask_type)
    attention = Attention(width, heads, tuple(weights), masks, need_weights, average)
    given = [local[name] for name in ("query", "key", "value")] if local else [q, k, v]  # autocast copies each
    k_is_q, v_is_k = given[1] is given[0], given[2] is given[1]

    def run(recorder: StepRecorder) -> None:
        first = recorder.like(q)
        second = first if k_is_q else recorder.like(k)
        third = second if v_is_k else recorder.like(v)
        attention.run(recorder, first, second, third, **attention.options(recorder, q.dtype))

    about = (*map(_about, (q, k, v, *weights)), k_is_q, v_is_k, *attention._replace(weights=()))
    return OperatorSteps(("attention", *about), q.device.type, run, moved=_sum_of(masks, local))


def _layer(arguments: list[Any]) -> OperatorSteps | None:
    x, width, heads, *rest = arguments
    weights, (gelu, norm_first, eps), norms, hidden, (mask, mask_type) = (
        tuple(rest[i:j]) for i, j in ((0, 4), (4, 7), (7, 11), (11, 15), (15, 17))
    )
    if not _are_plain([x]):  # the rows that are left of a padded batch
        return None
    local = _locals_of(_LAYER)
    masks = _masks_of(local, "src_mask", "src_key_padding_mask") if local else _masks_by_type(mask, mask_type)
    activation = "activation" if isinstance(getattr(local.get("self"), "activation", None), nn.Module) else ""
    layer = EncoderLayer(
        Attention(width, heads, weights, masks), hidden, norms, eps, bool(gelu), bool(norm_first), activation
    )
    tensors = map(_about, (*weights, *norms, *hidden))
    names = (*_CALLED, *([activation] if activation else [])) if local else ()
    called = {name: type(getattr(local["self"], name)) for name in names}
    options = (heads, masks, gelu, norm_first, activation, *called.values())
    about = ("layer", _about(x), *tensors, *options)
    moved = _sum_of(masks, local)

    def run(recorder: StepRecorder) -> None:
        layer.run(recorder, recorder.like(x))

    return OperatorSteps(about, x.device.type, run, called, moved)


def _merging(original: Any) -> Any:
    """Patch how attention adds its masks for the fast path: a layer without biases then does not take that path."""

    @wraps(original)
    def merge_masks(self: Any, *args: Any, **kwargs: Any) -> Any:
        counting = interceptors() if self.in_proj_bias is None else []
        if not counting:
            return original(self, *args, **kwargs)
        with without(counting):
            return original(self, *args, **kwargs)

    return merge_masks


_MERGE = "merge_masks"
PATCHED_AROUND: dict[tuple[Any, str], Any] = (
    {(nn.MultiheadAttention, _MERGE): _merging} if hasattr(nn.MultiheadAttention, _MERGE) else {}
)
"""Wrappers by class and method, so that no mask is charged that attention adds up for nothing."""


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    return all(not t.is_nested and all(type(n) is int for n in t.shape) for t in tensors)


def _about(tensor: Tensor | None) -> object:
    if tensor is None:
        return None
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device.type, tensor.requires_grad


def _shape(mask: Tensor | None) -> tuple[int, ...] | None:
    return None if mask is None else tuple(mask.shape)


def _locals_of(code: Any) -> dict[str, Any]:
    """Return the variables of the ``forward`` that takes the fast path, which knows its masks apart; none if none."""
    frame: Any = sys._getframe(1)
    for _ in range(_FAR):
        if frame is None or frame.f_code is code:
            break
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None and frame.f_code is code else {}


def _masks_of(local: dict[str, Any], attention: str, padding: str) -> Masks:
    return Masks(_shape(local[attention]), _shape(local[padding]), bool(local["is_causal"]))


def _sum_of(masks: Masks, local: dict[str, Any]) -> Tensor | None:
    """Return the sum of two masks, made for the fast path; step by step it is made inside of attention."""
    return local.get("merged_mask") if masks.attention is not None and masks.padding is not None else None


def _masks_by_type(mask: Tensor | None, kind: int | None) -> Masks:
    """Read the mask of an operator that no module called: of padding, of pairs, or of pairs for each head."""
    if mask is None:
        return Masks()
    shape = tuple(mask.shape)
    if kind == 1:
        return Masks(padding=shape)
    return Masks((shape[0] * shape[1], *shape[2:]) if len(shape) > 3 else shape)


@handler
def _from_padding(mode: Mode, plan: Plan, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run what an encoder asks for on its fast path alone; the negated mask is made for nothing else."""
    out = func(*args, **kwargs)
    mode.charge(plan, out, args, kwargs)
    if mode.counts_steps and _locals_of(_ENCODER):
        mode.take_back("aten.logical_not.default", args[1])
    return out


_HANDLERS: dict[str, Handler] = {
    "aten._native_multi_head_attention": _FastPath(_attention),
    "aten._transformer_encoder_layer_fwd": _FastPath(_layer),
    "aten._nested_tensor_from_mask": _from_padding,
    "aten._nested_tensor_from_mask_left_aligned": _from_padding,
}


def handler_of(name: str) -> Handler | None:
    """Return what runs an operator of a fast path; None for all others."""
    return _HANDLERS.get(name.rpartition(".")[0])
