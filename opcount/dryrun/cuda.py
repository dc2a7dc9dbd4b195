"""Composite operators of a dry run as PyTorch runs them on a CUDA device, which need not be there.

All tensors stay fake tensors on the CPU: fake tensors on CUDA that need gradients end the process where PyTorch was
built for CPUs. Their operators are those of CUDA, for which PyTorch has shape functions everywhere.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.dispatch import (
    CAN_REDISPATCH,
    DispatchKey,
    OpOverload,
    aten,
    destroy_library,
    is_registered,
    run_kernel,
)
from opcount._torch.optimizers import FOREACH_DEVICES
from opcount.dryrun.cuda_attention import attention
from opcount.dryrun.cuda_autocast import IN_FLOAT32, IN_LOWER_PRECISION, INTO_FLOAT32, cast_as_on_cuda
from opcount.dryrun.cuda_recurrent import gru_cell, layers, lstm_cell
from opcount.errors import DryRunError
from opcount.interceptor.composites import run_composites
from opcount.interceptor.patches import Patches
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from opcount.interceptor.composites import Way

_RMS_NORM = "aten::_fused_rms_norm"


def dropout(run: Callable[..., Tensor], x: Tensor, p: float, train: bool) -> Tensor:  # noqa: FBT001  (PyTorch's signature)
    """Return what is left of a tensor, by the operator that keeps a mask of one byte an element."""
    if not train or not 0 < p < 1 or not x.numel() or x.is_nested:
        return run(x, p, train)
    left: Tensor = torch.ops.aten.native_dropout.default(x, p, train)[0]
    return left


def softmax(name: str, run: Callable[..., Tensor], x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return the softmax in float32 of a tensor in float16, without a copy of it in float32."""
    if x.dtype is torch.float16 and dtype is torch.float32:
        out: Tensor = aten(f"_{name}.default")(x, dim, True)  # noqa: FBT003
        return out
    return run(x, dim, dtype)


@cache
def ways_on_cuda(capability: tuple[int, int] | None) -> Mapping[OpOverload, Way]:
    """Return what runs composite operators as a device of a compute capability does; None: nothing does.

    Raises:
        DryRunError: This PyTorch lets nothing else run a composite operator.
    """
    if capability is None:
        return {}
    if not CAN_REDISPATCH:
        raise DryRunError(
            f"dry run: expected PyTorch 2.4 or newer for device=, got {torch.__version__}, which does not let "
            f"composite operators be run another way. Install a newer one, or leave device out."
        )
    ways: dict[str, Way] = {
        "dropout.default": dropout,
        "scaled_dot_product_attention.default": partial(attention, capability),
        "softmax.int": partial(softmax, "softmax"),
        "log_softmax.int": partial(softmax, "log_softmax"),
        "lstm_cell.default": lstm_cell,
        "gru_cell.default": gru_cell,
    }
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        ways[f"{name}.input"] = partial(layers, name, False)  # noqa: FBT003
        ways[f"{name}.data"] = partial(layers, name, True)  # noqa: FBT003
    for name in IN_FLOAT32 | INTO_FLOAT32 | IN_LOWER_PRECISION:
        if is_registered(f"aten::{name.removesuffix('.default')}"):
            ways[name] = partial(cast_as_on_cuda, name, ways.get(name))
    return {aten(name): way for name, way in ways.items()}


@contextmanager
def choices_of_cuda(ways: Mapping[OpOverload, Way]) -> Iterator[None]:
    """Have this thread choose operators, and all threads optimizers, as on a CUDA device.

    Args:
        ways: Those of the device; none: everything stays as it is.
    """
    with Undo() as undo:
        if ways:
            _OPTIMIZERS.use(undo)
            if is_registered(_RMS_NORM):
                _keep_rms_norm(undo)
            run_composites(ways, undo)
        yield


def _keep_rms_norm(undo: Undo) -> None:
    """Let autograd see an RMS norm whole, as where a device has a kernel for it: here it is a composite operator."""
    norm = aten("_fused_rms_norm.default")
    library = torch.library.Library("aten", "IMPL")
    undo.add(partial(destroy_library, library))
    library.impl(norm, partial(_as_composite, norm), "CPU")


def _as_composite(norm: OpOverload, *args: Any) -> Any:
    return run_kernel(norm, DispatchKey.CompositeImplicitAutograd, args, {})


def _and_on_the_cpu(devices: Callable[[], list[str]]) -> Callable[[], list[str]]:
    return lambda: [*devices(), "cpu"]


_OPTIMIZERS = Patches({(module, name): _and_on_the_cpu(vars(module)[name]) for module, name in FOREACH_DEVICES})
"""Devices on which optimizers handle many tensors at a time unless they are told not to."""
