"""What mmengine calls an operator: the Python function that was written, where a counter sees what it became."""

from __future__ import annotations

import re

_NORM = re.compile(r"(batch|layer|group|instance)_norm")


def word(operator: str, family: str, module_type: str) -> str:
    """Return mmengine's word for an operator that ran in a module of that class.

    A linear layer arrives as a product with a bias, or as one inside a class named ``...Linear``; all other products
    were written as ``@`` or ``matmul`` or stand in attention. ``InstanceNorm`` arrives as a batch norm.

    Example:
        >>> word("aten.addmm.default", "matmul", "Linear"), word("aten.bmm.default", "matmul", "Attention")
        ('linear', 'matmul')
        >>> word("aten.native_layer_norm.default", "norm", "LayerNorm")
        'layer_norm'
    """
    packet = operator.split(".")[1] if "." in operator else operator
    if family == "conv":
        return "conv"
    if family == "attention":
        return "matmul"
    if family == "matmul":
        return "linear" if "addmm" in packet or module_type.endswith("Linear") else "matmul"
    if family == "pool" and packet in ("mean", "_adaptive_avg_pool2d"):
        return "adaptive_avg_pool2d"
    norm = _NORM.search(packet)
    if norm is not None:
        return "instance_norm" if module_type.startswith("InstanceNorm") else norm[0]
    return "grid_sampler" if "grid_sampler" in packet else packet.strip("_")
