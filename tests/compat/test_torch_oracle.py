"""Numbers, keys and texts against PyTorch's own ``FlopCounterMode``, wherever that is right."""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils import flop_counter as theirs

from opcount.compat import torch as ours
from tests.compat.trees import SHAPE, models
from tests.features import needs
from tests.shims import install

tabulate = pytest.importorskip("tabulate")
pytestmark = needs("torch.utils.module_tracker")  # before, PyTorch's own finds no modules and fails where it counts 0


def keeps_indents():
    """Let tabulate keep leading blanks: torch asks for it by a global that tabulate 0.10 does not read any more."""
    new = "preserve_whitespace" in inspect.signature(tabulate.tabulate).parameters
    return mock.patch.object(
        tabulate, "tabulate", partial(tabulate.tabulate, **{"preserve_whitespace": True} if new else {})
    )


def answers(package, program):
    """Return all that can be asked of a counter."""
    with package.FlopCounterMode(display=False) as counter, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program()
    with keeps_indents():
        tables = [counter.get_table(depth) for depth in (None, 1, 3, 99)]
    operators = {module: list(counts) for module, counts in counter.get_flop_counts().items()}
    return counter.get_total_flops(), counter.get_flop_counts(), operators, counter.flop_counts, tables


def agree(program):
    """Hold all answers to torch's; return the total."""
    expected = answers(theirs, program)
    assert answers(ours, program) == expected
    return expected[0]


class Scattered(nn.Module):
    """Calls modules twice, in odd order, from a list and from another's attribute, and works outside of them."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), self.shared) for _ in range(2))
        self.unused = nn.Linear(2, 2)
        self.loose = [nn.Linear(8, 8)]

    def forward(self, x):
        x = x @ x.t() @ x
        for block in reversed(self.blocks):
            x = block(x)
        return self.loose[0](self.shared(x)) @ torch.ones(8, 3)


class Square(torch.autograd.Function):
    """Three products, two of them backward."""

    @staticmethod
    def forward(ctx, x):
        return x @ x

    @staticmethod
    def backward(ctx, grad):
        return grad @ grad + grad @ grad


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


def two_backwards():
    a = leaf(4, 5)
    for _ in range(2):
        a.mm(a.t()).sum().backward()


def square(x: torch.Tensor) -> torch.Tensor:
    return torch.mm(x, x)


SMALL = {
    "nothing": lambda: None,
    "no product": lambda: torch.randn(4, 5).cos(),
    "no rows": lambda: torch.randn(0, 5) @ torch.randn(5, 3),
    "a product": lambda: torch.randn(4, 5) @ torch.randn(5, 6),
    "two of one class": lambda: nn.Linear(9, 4)(nn.Linear(3, 9)(torch.randn(2, 3))),
    "modules and more": lambda: Scattered()(torch.randn(4, 8)),
    "products of tensors": lambda: torch.einsum("bij,bjk->bik", torch.randn(50, 40, 30), torch.randn(50, 30, 20)),
    "backward": lambda: (
        nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))(torch.randn(4, 8, requires_grad=True))
        .sum()
        .backward()
    ),
    "backward of a batch": lambda: (
        torch.bmm(torch.mm(leaf(4, 5), torch.randn(5, 6)).expand(7, 4, 6), torch.randn(7, 6, 7)).sum().backward()
    ),
    "two backwards of one leaf": two_backwards,
    "a function of autograd": lambda: Square.apply(leaf(5, 5)).sum().backward(),
    "a scripted function": lambda: torch.jit.script(square)(torch.randn(5, 5)),
    "backward of a convolution that widens": lambda: F.conv2d(leaf(1, 3, 4, 4), leaf(7, 3, 2, 2)).sum().backward(),
    "backward of a transposed one that narrows": lambda: (
        F.conv_transpose2d(leaf(1, 3, 4, 4), leaf(3, 1, 2, 2)).sum().backward()
    ),
    "a loop": lambda: [nn.ConvTranspose2d(4, 8, 2, stride=2)(torch.rand(1, 4, 9, 2)).sum().backward() for _ in "abc"],
    "backward of convolutions": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 2, 2), nn.Flatten(), nn.Linear(32, 2)
        )(torch.randn(2, 3, 8, 8, requires_grad=True))
        .sum()
        .backward()
    ),
}


@pytest.mark.parametrize("program", SMALL)
def test_small_programs_count_and_read_as_in_torch(program):
    agree(SMALL[program])


@pytest.mark.parametrize("size", [1, 4, 7, 10, 23, 50, 300, 1300, 5000])
def test_every_unit_prints_as_in_torch(size):
    a = torch.empty(size, size, device="meta")
    assert agree(lambda: nn.Linear(size, 2, device="meta")(a @ a)) == 2 * size**3 + 4 * size**2


@given(models())
@settings(max_examples=30)
def test_random_models_count_and_read_as_in_torch(model):
    x = torch.ones(SHAPE)
    agree(lambda: model.eval()(x))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "googlenet", "swin_t"])
@torch.no_grad()
def test_models_of_torchvision_count_and_read_as_in_torch(name):
    install()
    zoo = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "googlenet" else {}
    model = zoo.get_model(name, weights=None, **options).eval()
    assert agree(lambda: model(torch.randn(1, 3, 64, 64)))


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_backward_counts_in_all_as_in_torch(name):
    """In all, and where no branch meets another: torch's tracker leaves modules open there."""
    install()
    zoo = pytest.importorskip("torchvision.models")
    model = zoo.get_model(name, weights=None)
    _, expected, *_ = answers(theirs, lambda: step(model))
    _, counts, *_ = answers(ours, lambda: step(model))
    assert counts["Global"] == expected["Global"]
    assert set(counts) <= set(expected)
    same = [module for module in counts if counts[module] == expected[module]]
    assert len(same) > len(counts) / 2
    conv, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
    assert all(c[backward] == 2 * c[conv] for c in counts.values() if conv in c)


def step(model):
    model(torch.randn(2, 3, 64, 64, requires_grad=True)).sum().backward()


def configs(transformers):
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    yield transformers.BertConfig(**small, vocab_size=100)
    yield transformers.LlamaConfig(**small, vocab_size=100, num_key_value_heads=1)
    yield transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100)


@pytest.mark.parametrize("number", range(3))
def test_transformers_count_and_read_as_in_torch(number):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_config(list(configs(transformers))[number], attn_implementation="eager")
    ids = torch.randint(0, 100, (1, 16))
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415  (since 2.3)

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        assert agree(lambda: model(ids))
    totals = [answers(package, lambda: model(ids).last_hidden_state.sum().backward())[0] for package in (theirs, ours)]
    assert totals[0] == totals[1]


def test_an_own_formula_counts_and_reads_as_in_torch():
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2))
    x = torch.randn(4, 8)
    counters = []
    for package in (theirs, ours):
        mapping = {torch.ops.aten.gelu: lambda x, *_, out_shape, **__: 8 * x.numel()}
        with package.FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            net(x)
        counters.append(counter)
    assert counters[0].get_flop_counts() == counters[1].get_flop_counts()
    with keeps_indents():
        assert counters[0].get_table() == counters[1].get_table()


def test_names_last_from_one_block_to_the_next_as_in_torch():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    x = torch.randn(4, 8)
    seen = []
    for package in (theirs, ours):
        counter = package.FlopCounterMode(display=False)
        keys = []
        for program in (net[0], net, net[0]):
            with counter:
                program(x)
            keys.append(counter.get_flop_counts())
        seen.append(keys)
    assert seen[0] == seen[1]
    assert set(seen[1][0]) == {"Global", "Linear"}
    assert set(seen[1][2]) == {"Global", "Sequential.0"}
