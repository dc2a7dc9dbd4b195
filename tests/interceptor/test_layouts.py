"""Tensors of every layout compute under a counter what they compute without it, whole or opened."""

from __future__ import annotations

import pytest
import torch

from opcount import OpCounter
from tests.features import needs

pytestmark = needs("torch._ops.OpOverload.redispatch")

LIBRARY = torch.library.Library("layouts", "FRAGMENT")
for name, key in {"explicit": "CompositeExplicitAutograd", "implicit": "CompositeImplicitAutograd"}.items():
    LIBRARY.define(f"{name}(Tensor x) -> Tensor")
    LIBRARY.impl(name, lambda x: dense(x) @ dense(x), key)

MAKERS = {
    "strided": lambda x: x,
    "mkldnn": lambda x: x.to_mkldnn(),
    "coo": lambda x: x.to_sparse(),
    "csr": lambda x: x.to_sparse_csr(),
    "csc": lambda x: x.to_sparse_csc(),
    "bsr": lambda x: x.to_sparse_bsr((1, 1)),
    "quantized": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
    "conjugate": lambda x: torch.complex(x, x).conj(),
    "zero": lambda x: torch._efficientzerotensor(*x.shape),
}
OPERATORS = {"opened": torch.ops.layouts.explicit, "composite": torch.ops.layouts.implicit, "built in": torch.relu}


def dense(x):
    return x.dequantize() if x.is_quantized else x if x.layout is torch.strided else x.to_dense()


def outcome(operator, x):
    """Return the result, or what went wrong: a sparse tensor lacks many kernels, and then so it must with us."""
    try:
        return dense(operator(x)).resolve_conj()
    except (NotImplementedError, RuntimeError) as error:
        return type(error), str(error)


@pytest.mark.filterwarnings("ignore")  # of layouts and of quantization that are in beta
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", MAKERS)
def test_a_counter_changes_no_result_and_no_error(layout, operator, mode):
    x = MAKERS[layout](torch.arange(9.0).reshape(3, 3) - 4)
    with mode():
        bare = outcome(OPERATORS[operator], x)
        with OpCounter() as c:
            seen = outcome(OPERATORS[operator], x)
    assert torch.equal(bare, seen) if isinstance(bare, torch.Tensor) else bare == seen
    if operator != "built in":
        assert c.macs == 3 * 3 * 3 * (4 if layout == "conjugate" else 1)
        assert c.coverage.complete
