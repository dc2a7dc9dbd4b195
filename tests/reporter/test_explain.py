"""The explanation of a module: formula text, shapes and exact numbers of its own operators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import InputError
from opcount.profile import Profile
from tests.features import custom_op


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(8, 5))
        self.tied = self.body[1]

    def forward(self, x):
        return self.body(self.conv(x))


def count(model, x, **options):
    with torch.no_grad(), OpCounter(model, **options) as c:
        model(x)
    return c.profile


@pytest.fixture
def profile():
    return count(Net(), torch.randn(2, 3, 8, 8)).with_convention("macs")


def test_an_operator_comes_with_its_mathematics_its_shapes_and_its_numbers(profile):
    text = profile.explain("conv")
    head, operator, mathematics, shapes, numbers, traffic, total, whole_traffic, convention = text.splitlines()
    assert head == "conv: Conv2d, called once"
    assert operator == "aten.convolution.default: conv, forward, float32, 1 call"
    assert mathematics.strip() == profile.formulas["aten.convolution.default"].replace("``", "")
    assert shapes == "    (2x3x8x8, 4x3x3x3, 4) -> 2x4x8x8"
    # 512 outputs of 27 products and a bias each
    assert numbers == "    13,824 MACs, 512 other operations, 512 activations"
    # 2x3x8x8 inputs, 4x3x3x3 weights, 4 biases; 512 outputs
    assert traffic.strip() == whole_traffic == "1,984 bytes read, 2,048 written; 6.86 FLOPs/byte"
    assert total == "total: 13,824 MACs, 512 other operations, 512 activations"
    assert convention == "convention: macs (MACs of contractions only)"


def test_free_operators_share_a_line(profile):
    (line,) = (line for line in profile.explain("body.1").splitlines() if line.startswith("free: "))
    assert "aten.t.default (1 call)" in line


def test_a_container_names_its_children_and_their_sum(profile):
    text = profile.explain("body")
    assert "body.0: 0 MACs" not in text
    assert "body.0: 512 other operations" in text
    assert "total: 2,560 MACs" in text  # 2 x 4 x 8 rows of 8 products for 5 outputs


def test_the_root_and_an_alias_are_modules_too(profile):
    assert profile.explain() == profile.explain("")
    assert profile.explain().startswith("the root: Net, called once\n")
    assert profile.explain("tied") == profile.explain("body.1")


def test_several_calls_show_the_shapes_of_the_first():
    layer = nn.Linear(4, 5, bias=False)
    with torch.no_grad(), OpCounter(layer) as c:
        layer(torch.randn(2, 4))
        layer(torch.randn(3, 4))
    text = c.profile.explain()
    assert "2 calls" in text
    assert "(2x4, 4x5) -> 2x5 at the first call" in text
    assert "100 MACs" in text  # (2 + 3) x 4 x 5


@pytest.mark.filterwarnings("ignore::opcount.errors.UncountedOperatorWarning")
def test_what_nobody_knows_is_said_to_be_unknown():
    @custom_op("explained::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)

    with OpCounter() as c:
        opaque(torch.ones(3))
    text = c.profile.explain()
    assert "explained.opaque.default: uncounted" in text
    assert "no formula: nobody knows what it computes" in text


def test_an_operator_that_is_priced_in_two_ways_shows_both():
    with OpCounter() as c:
        torch.randn(2, 3, 4, 4).mean([-1, -2], keepdim=True)  # adaptive average pooling to one
        torch.randn(3, 4).mean([0])
    assert " Or: " in c.profile.formulas["aten.mean.dim"]


def test_an_unknown_path_is_an_error_with_near_names(profile):
    with pytest.raises(InputError, match=r"got 'body\.2' of type str\. Did you mean 'body(\.\d)?'"):
        profile.explain("body.2")
    with pytest.raises(InputError, match=r"got 3 of type int\. by_module\(\) lists the paths"):
        profile.explain(3)


def test_a_stored_profile_explains_itself_without_torch(profile, tmp_path):
    file = tmp_path / "profile.json"
    file.write_text(profile.to_json())
    code = (
        "import sys; from pathlib import Path; sys.modules['torch'] = None\n"
        "from opcount.profile import Profile\n"
        "print(Profile.from_json(Path(sys.argv[1]).read_text()).explain('conv'))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == profile.explain("conv")
    assert Profile.from_json(profile.to_json()).explain("conv") == profile.explain("conv")
