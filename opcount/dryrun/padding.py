"""Refuse encoders that pack sequences by a padding mask of unknown values: a dry run would count the padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opcount.dryrun.refusals import Refusals


def guard_padding(modules: Iterable[nn.Module], known: Callable[[Tensor], Tensor | None], refusals: Refusals) -> None:
    """Refuse calls that would run on nested tensors, unless the mask is known to hide nothing."""

    def check(encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("src_key_padding_mask", args[2] if len(args) > 2 else None)
        if mask is None or encoder.training or _records(encoder):
            return
        value = known(mask)
        if value is None or _hides(value.tolist()):
            raise refusals.refuse("TransformerEncoder", "packs its input by the values of src_key_padding_mask")

    for module in modules:
        if type(module) is nn.TransformerEncoder and module.enable_nested_tensor:
            module.register_forward_pre_hook(check, with_kwargs=True)


def _hides(rows: list[list[float]]) -> bool:
    return any(map(any, rows))


def _records(encoder: nn.Module) -> bool:
    """Return whether gradients keep the encoder from packing."""
    return torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
