"""Names of operators in formulas, in this PyTorch and in the documentation."""

import re

import pytest
import torch

from opcount.formulas import attention, conv, matmul, norm, pool, resample
from opcount.registry import BUILTIN
from tests.features import VERSION, WHOLE, require
from tests.shims import ROOT

FILES = {module.__name__ for module in (attention, conv, matmul, norm, pool, resample)}
NAMESPACES = {"aten", "inductor", "mkl", "mkldnn", "symm_mem"}
NAMES = sorted(
    key
    for key, formulas in BUILTIN.targets().items()
    if any(f.price.__module__ in FILES for f in formulas) and key.partition(".")[0] in NAMESPACES
)

ABSENT_FROM_SOME_BUILDS = {
    "aten._cudnn_attention_forward_no_dropout_inplace": "from PyTorch 2.15 on",
    "aten._scaled_addmm": "from PyTorch 2.15 on",
    "mkl._mkl_linear": "only with Intel's MKL",
    "mkldnn._convolution_pointwise": "only with oneDNN",
    "mkldnn._convolution_pointwise.binary": "only with oneDNN",
    "mkldnn._convolution_pointwise_.binary": "only with oneDNN",
    "mkldnn._convolution_transpose_pointwise": "only with oneDNN",
    "mkldnn._linear_pointwise": "only with oneDNN",
    "mkldnn._linear_pointwise.binary": "only with oneDNN",
}


def exists(name):
    namespace, packet, *overload = name.split(".")
    try:
        found = getattr(getattr(torch.ops, namespace), packet)
    except AttributeError:
        return False
    return not overload or overload[0] in found.overloads()


@pytest.mark.parametrize("name", NAMES)
def test_a_registered_name_is_an_operator_of_this_pytorch(name):
    if VERSION < WHOLE and not exists(name):
        require(f"torch.ops.{name}")
    assert exists(name) or name in ABSENT_FROM_SOME_BUILDS, (
        f"{name} is no operator of this PyTorch. Correct it, or write in ABSENT_FROM_SOME_BUILDS which builds have it."
    )


@pytest.mark.parametrize("name", sorted(key for key in BUILTIN.targets() if isinstance(key, str)))
def test_a_formula_states_its_mathematics_in_one_paragraph(name):
    assert all(len(f.text) > 10 for f in BUILTIN.targets()[name])


FUNCTIONS = {key for key in BUILTIN.targets() if key.startswith("autograd.")}


@pytest.mark.parametrize("name", sorted(name for name in FUNCTIONS if name.endswith("Backward")))
def test_a_backward_has_a_function_whose_backward_it_is(name):
    assert name.removesuffix("Backward") in FUNCTIONS


def test_the_documentation_lists_the_functions_that_have_a_formula():
    listed = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")))
    assert {name.removeprefix("autograd.") for name in FUNCTIONS if not name.endswith("Backward")} <= listed
