"""Composite operators: PyTorch takes them apart before a dispatch mode sees them, except under inference_mode.

So a formula for one would be asked in one grad mode and not in the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from opcount.errors import FormulaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch._ops import OpOverload


def is_composite(func: OpOverload) -> bool:
    """Tell whether the operator is written in terms of others, for devices without a kernel of their own."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def is_always_composite(packet: Any) -> bool:
    """Tell whether all overloads of a packet are; those that write into ``out`` aside, which nobody differentiates."""
    overloads = [getattr(packet, name) for name in packet.overloads() if "out" not in name.split("_")]
    known = [func for func in overloads if torch._C._dispatch_has_kernel(func.name())]  # others are TorchScript's own
    return bool(known) and all(map(is_composite, known))


def refuse_composites(targets: Iterable[object]) -> None:
    """Refuse formulas that would be asked in one grad mode and not in the others.

    Args:
        targets: What formulas are registered for; only operators by name are looked at, and only those that exist.

    Raises:
        FormulaError: A target is a composite operator.
    """
    for target in targets:
        if isinstance(target, str) and _is_composite_target(target):
            raise FormulaError(
                f"OpCounter: expected formulas for operators that a counter meets in every grad mode, got {target!r} "
                f"of type {type(target).__name__}: it is composite, and PyTorch takes it apart first. Price the "
                f"operators that it is made of, as by_operator() shows them, or the nn.Module class that calls it."
            )


def _is_composite_target(name: str) -> bool:
    namespace, packet_name, *overload = name.split(".", 2)
    if packet_name.startswith("_"):  # one that devices have kernels of their own for, which are met in every mode
        return False
    packet = getattr(getattr(torch.ops, namespace), packet_name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    if not overload:
        return is_always_composite(packet)
    func = getattr(packet, overload[0], None)
    return func is not None and is_composite(func)
