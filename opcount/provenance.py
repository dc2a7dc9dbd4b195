"""Provenance of a count: versions, device, dtype, modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opcount._torch.modules import modules_of, parameters_of
from opcount._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


def describe(model: nn.Module | None, before: Mapping[str, str], *, dry_run: bool = False) -> dict[str, str]:
    """Return versions, device, dtype and modes as they are now, joined with earlier ones."""
    now = {"opcount": __version__, "torch": str(torch.__version__), "grad": _grad_mode()}
    now["run"] = "dry" if dry_run else "real"
    if model is not None:
        now["model"] = type(model).__name__
        now["mode"] = "train" if getattr(model, "training", False) else "eval"  # a frozen script has it inlined
        parameters = _parameters(model)
        devices = sorted({each.device.type for each in parameters})
        dtypes = {each.dtype for each in parameters}
        if devices:
            now["device"] = "+".join(devices)
            now["dtype"] = "+".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return {**now, **{k: v if now.get(k, v) == v else _join(v, now[k]) for k, v in before.items()}}


def _parameters(model: nn.Module) -> list[torch.Tensor]:
    tables = [parameters_of(module) for module in modules_of(model)]
    return [parameter for table in tables for parameter in table.values() if parameter is not None]


def _join(before: str, now: str) -> str:
    return before if f", {now}, " in f", {before}, " else f"{before}, {now}"


def _grad_mode() -> str:
    if torch.is_inference_mode_enabled():
        return "inference_mode"
    return "grad" if torch.is_grad_enabled() else "no_grad"
