"""Steps of TorchScript that are no operators: kernels that only its interpreter runs, and no dispatch mode sees.

``torch.jit.optimize_for_inference`` puts them into a graph: ``prim::mkldnn_convolution`` and its like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_KERNELS = ("prim::mkldnn_", "prim::MKLDNN", "prim::TensorExprGroup", "prim::CudaFusionGroup", "prim::FusionGroup",
            "prim::oneDNNFusionGroup")  # fmt: skip
"""Beginnings of their names; what else begins with ``prim::`` moves values, or calls what is seen."""


def hidden_kernels(module: Any) -> list[str]:
    """Return the names of the kernels in a ScriptModule's forward, ``"prim.mkldnn_convolution"``, one for each."""
    graph = getattr(module, "inlined_graph", None)
    return [] if graph is None else [kind.replace("::", ".") for kind in _kinds(graph) if kind.startswith(_KERNELS)]


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
