"""Programs written for ``torch.utils.flop_counter``, with the import changed and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from opcount.compat.torch import FlopCounterMode, flop_registry, register_flop_formula
from opcount.errors import CounterStateError, FormulaError, UncountedOperatorWarning
from tests.features import needs
from tests.shims import install

aten = torch.ops.aten


@pytest.fixture
def registry():
    """PyTorch's registry, put back afterwards."""
    before = dict(flop_registry)
    yield flop_registry
    flop_registry.clear()
    flop_registry.update(before)


@pytest.fixture
def scale():
    """Yield a custom operator that multiplies by a matrix inside."""
    with torch.library._scoped_library("opcount_compat", "FRAGMENT") as library:
        library.define("scale(Tensor x, Tensor w) -> Tensor")
        library.impl("scale", lambda x, w: x @ w, "CPU")
        yield torch.ops.opcount_compat.scale


def counted(program, **options):
    with FlopCounterMode(display=False, **options) as counter:
        program()
    return counter


def total(program, **options):
    return counted(program, **options).get_total_flops()


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


class Nested(nn.Module):
    """Passes dictionaries from module to module."""

    class Square(nn.Module):
        def forward(self, x):
            x = x["a"].relu_()
            return {"a": x @ x}

    def __init__(self):
        super().__init__()
        self.a, self.b = self.Square(), self.Square()

    def forward(self, x):
        return self.b(self.a(x))


def test_products_count_two_flops_for_each_mac():
    linear = nn.Linear(9, 10)
    a, b = torch.randn(4, 5), torch.randn(5, 6)

    def program():
        torch.mm(a, b)
        torch.addmm(torch.randn(4, 6), a, b, beta=0.5, alpha=0.5)
        torch.matmul(torch.randn(5, 6), torch.randn(6, 7))
        torch.einsum("ab,bc->ac", torch.randn(6, 7), torch.randn(7, 8))
        linear(torch.randn(8, 9))

    assert total(program) == 2 * (4 * 5 * 6 + 4 * 5 * 6 + 5 * 6 * 7 + 6 * 7 * 8 + 8 * 9 * 10)


def test_an_output_that_is_given_changes_no_count():
    x, out = torch.randn(10, 10), torch.zeros(10, 10)
    assert total(lambda: torch.mm(x, x, out=out)) == 2 * 10**3


def test_inference_mode_counts_under_the_operators_that_autograd_would_show():
    linear, x = nn.Linear(9, 10), torch.randn(8, 9)
    with torch.inference_mode():
        counts = counted(lambda: F.conv1d(linear(x)[None], torch.ones(1, 8, 3))).get_flop_counts()
    conv, addmm = 2 * 8 * 3 * 8, 2 * 8 * 9 * 10
    assert counts == {
        "Global": {aten.addmm: addmm, aten.convolution: conv},
        "Linear": {aten.addmm: addmm},
    }


def test_resnet_counts_by_the_names_of_its_modules():
    install()
    models = pytest.importorskip("torchvision.models")
    resnet = models.resnet18()
    with pytest.warns(UserWarning, match="not needed"):
        counter = FlopCounterMode(resnet, display=False)
    with counter:
        resnet(leaf(1, 3, 224, 224)).sum().backward()
    assert counter.get_total_flops() == 10_884_440_064  # this and the next two: published in PyTorch's own tests
    assert counter.flop_counts["ResNet.layer1"][aten.convolution] == 924_844_032
    assert counter.flop_counts["ResNet.layer1"][aten.convolution_backward] == 1_849_688_064


def test_modules_that_pass_dictionaries_get_their_backward():
    x = {"a": leaf(10, 10).clone()}
    counts = counted(lambda: Nested()(x)["a"].sum().backward()).flop_counts
    assert counts["Nested"][aten.mm] == 6 * 2000
    assert counts["Nested.a"][aten.mm] == counts["Nested.b"][aten.mm] == 3 * 2000


def test_a_formula_gets_shapes_or_the_arguments_themselves():
    x = torch.randn(4, 5)

    def elements(*args, out_val):
        return out_val.numel()

    elements._get_raw = True
    assert total(lambda: x + x, custom_mapping={aten.add: lambda a, b, out_shape: 5}) == 5
    assert total(lambda: x + x, custom_mapping={aten.add: lambda a, b, out_shape: a.numel() + out_shape[0]}) == 20 + 4
    assert total(lambda: x + x, custom_mapping={aten.add: elements}) == 20


def test_a_formula_replaces_ours_for_one_counter():
    a = torch.randn(4, 4)
    assert total(lambda: a @ a, custom_mapping={aten.mm: lambda *_, out_shape: 1}) == 1
    assert total(lambda: a @ a) == 2 * 4**3


def test_a_formula_may_return_a_float_or_nothing():
    x = torch.randn(4)
    assert total(lambda: x + x, custom_mapping={aten.add: lambda *_, out_shape: 2.6}) == 3
    counter = counted(lambda: x + x, custom_mapping={aten.add: lambda *_, out_shape: 0})
    assert counter.get_flop_counts() == {"Global": {aten.add: 0}}


def test_a_formula_that_fails_or_counts_below_nothing_names_the_operator():
    x = torch.randn(4)
    for wrong in (lambda a, out_shape: 1, lambda *_, out_shape: -1, lambda *_, out_shape: "7"):
        with pytest.raises(FormulaError, match=r"aten\.add\.Tensor"):
            total(lambda: x + x, custom_mapping={aten.add: wrong})
    with pytest.raises(FormulaError, match="'plus'"):
        total(lambda: x + x, custom_mapping={"plus": lambda *_, out_shape: 1})


@needs("formulas for FLOPs that are registered by packet")
def test_a_registered_formula_prices_a_custom_operator(registry, scale):
    x, w = torch.randn(2, 3), torch.randn(3, 4)
    assert counted(lambda: scale(x, w)).get_flop_counts() == {"Global": {aten.mm: 2 * 2 * 3 * 4}}

    @register_flop_formula(scale)
    def scale_flop(x_shape, w_shape, out_shape=None, **_):
        return 7 * x_shape[0] * w_shape[1]

    assert registry[scale] is scale_flop
    assert counted(lambda: scale(x, w)).get_flop_counts() == {"Global": {scale: 7 * 2 * 4}}


def test_what_is_registered_with_torch_is_priced_by_it_here(registry, scale):
    from torch.utils import flop_counter  # noqa: PLC0415

    flop_counter.register_flop_formula(scale, get_raw=True)(lambda x, w, out_val, **_: out_val.numel())
    assert total(lambda: scale(torch.randn(2, 3), torch.randn(3, 4))) == 8


def test_torch_s_own_formula_may_serve_another_operator(registry, scale):
    registry[scale] = registry[aten.mm]
    counts = counted(lambda: scale(torch.randn(2, 3), torch.randn(3, 4))).get_flop_counts()
    assert counts == {"Global": {scale: 2 * 2 * 3 * 4}}


@needs("formulas for FLOPs that are registered by packet")
def test_registering_twice_or_for_no_packet_is_an_error(registry):
    with pytest.raises(RuntimeError, match="duplicate registrations"):
        register_flop_formula(aten.mm)(lambda *_, out_shape: 0)
    with pytest.raises(ValueError, match="expected each target to be"):
        register_flop_formula(lambda x: x)(lambda *_, out_shape: 0)


def test_entering_again_begins_anew():
    counter = FlopCounterMode(display=False)
    a = torch.randn(4, 4)
    for times in (1, 3):
        with counter:
            for _ in range(times):
                a @ a
        assert counter.get_total_flops() == times * 2 * 4**3


def test_counts_can_be_read_and_cleared_inside_the_block():
    a = torch.randn(4, 4)
    with FlopCounterMode(display=False) as counter:
        seen = []
        for _ in range(3):
            a @ a
            seen.append(counter.get_total_flops())
        assert seen == [2 * 4**3, 4 * 4**3, 6 * 4**3]
        counter.flop_counts.clear()
        a @ a
    assert counter.get_total_flops() == sum(counter.flop_counts["Global"].values()) == 2 * 4**3


def test_a_counter_that_is_entered_twice_or_left_unentered_says_so():
    counter = FlopCounterMode(display=False)
    with pytest.raises(CounterStateError, match="not counting"):
        counter.__exit__(None, None, None)
    with counter, pytest.raises(CounterStateError, match="counting already"):
        counter.__enter__()


def test_one_hook_of_each_kind_stands_while_it_counts():
    hooks = nn.modules.module
    with FlopCounterMode(display=False):
        assert len(hooks._global_forward_pre_hooks) == len(hooks._global_forward_hooks) == 1
        nn.Linear(4, 4)(torch.randn(3, 4)).sum().backward()
    assert not hooks._global_forward_pre_hooks
    assert not hooks._global_forward_hooks


def test_modules_stay_as_they_were():
    net = nn.Sequential(nn.Linear(3, 3))
    before = set(vars(net)) | set(vars(net[0]))
    with FlopCounterMode(display=False):
        net(torch.randn(2, 3))
        copy.deepcopy(net)
    assert set(vars(net)) | set(vars(net[0])) == before


def test_the_table_is_printed_on_leaving_unless_hidden(capsys):
    a = torch.randn(4, 4)
    with FlopCounterMode() as counter:
        a @ a
    assert capsys.readouterr().out == counter.get_table() + "\n"
    with FlopCounterMode(display=False):
        a @ a
    assert not capsys.readouterr().out


def test_the_table_goes_as_deep_as_asked():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    counter = counted(lambda: net(torch.randn(2, 4)), depth=None)
    assert counter.get_table().count("Sequential") == 3
    assert counter.get_table(1).count("Sequential") == 1
    assert counted(lambda: net(torch.randn(2, 4))).get_table().count("Sequential") == 2


def test_an_operator_that_nothing_explains_is_named():
    with torch.library._scoped_library("opcount_compat", "FRAGMENT") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", torch.zeros_like, "CPU")
        kernel = torch.ops.opcount_compat.opaque
        with pytest.warns(UncountedOperatorWarning, match="opaque"):
            assert total(lambda: kernel(torch.randn(2))) == 0


def test_checkpoints_count_their_recomputation_where_it_belongs():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    counts = counted(lambda: checkpoint(net, leaf(4, 8), use_reentrant=False).sum().backward()).flop_counts
    product = 2 * 4 * 8 * 8
    assert counts["Sequential.0"] == {aten.addmm: 2 * product, aten.mm: 2 * product}
    assert counts["Sequential.1"] == {aten.addmm: product, aten.mm: 2 * product}  # its output is not needed again


def test_gradients_of_leaves_count():
    linear, x = nn.Linear(8, 8), torch.randn(4, 8)
    counts = counted(lambda: torch.autograd.grad(linear(x).sum(), list(linear.parameters()))).flop_counts
    assert counts["Linear"] == {aten.addmm: 2 * 4 * 8 * 8, aten.mm: 2 * 4 * 8 * 8}


def test_meta_tensors_count_as_real_ones():
    def program(device):
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).to(device)(
            torch.ones(4, 8, device=device, requires_grad=True)
        ).sum().backward()

    assert counted(lambda: program("cpu")).get_table(9) == counted(lambda: program("meta")).get_table(9)


@needs("a shape function of packed attention")
def test_packed_sequences_of_unknown_lengths_have_no_more_rows_than_there_are():
    x = torch.empty(20, 8, 16, device="meta", dtype=torch.float16)
    offsets = torch.empty(4, device="meta", dtype=torch.int32)
    flops = total(lambda: aten._flash_attention_forward(x, x, x, offsets, offsets, 10, 10, 0.0, False, False))
    assert flops == 2 * 20 * 10 * 8 * (16 + 16)


def test_an_in_place_operator_is_priced_by_the_formula_of_the_other():
    x = torch.randn(4)
    counts = counted(lambda: x.add_(x), custom_mapping={aten.add: lambda *_, out_shape: 9}).get_flop_counts()
    assert counts == {"Global": {aten.add_: 9}}


def test_a_module_bears_the_name_of_its_class_however_many_there_are():
    x = torch.randn(2, 4)
    counts = counted(lambda: [nn.Linear(4, 4)(x), nn.Linear(4, 4)(x)]).get_flop_counts()
    assert set(counts) == {"Global", "Linear"}
