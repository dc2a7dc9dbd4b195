"""Numbers, names and texts against fvcore itself, which traces the model."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from functools import partial
from importlib import import_module
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F  # noqa: N812

from opcount.compat import fvcore as ours
from tests.compat.trees import SHAPE, models, without_absent
from tests.shims import install

theirs = pytest.importorskip("fvcore.nn")
activation_count, flop_count = (import_module(f"fvcore.nn.{name}_count") for name in ("activation", "flop"))
tabulate = pytest.importorskip("tabulate")


def keeps_indents():
    """Let tabulate keep leading blanks: fvcore asks for it by a global that tabulate 0.10 does not read any more."""
    new = "preserve_whitespace" in inspect.signature(tabulate.tabulate).parameters
    return mock.patch.object(
        tabulate, "tabulate", partial(tabulate.tabulate, **{"preserve_whitespace": True} if new else {})
    )


def ask_fvcore(function, *args, **kwargs):
    """Call fvcore without what it and its tracer warn of."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), keeps_indents():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    finally:
        logging.disable(logging.NOTSET)


def analyses(package, model, inputs):
    return [
        kind(model, inputs).unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        for kind in (package.FlopCountAnalysis, package.ActivationCountAnalysis)
    ]


def answers(package, model, inputs, ancestors="owner"):
    """Return all that can be asked of both analyses."""
    found = []
    for analysis in analyses(package, model, inputs):
        analysis.ancestor_mode(ancestors)
        found += [
            analysis.by_module_and_operator(),
            list(analysis.by_module().items()),
            analysis.total(),
            analysis.uncalled_modules(),
            {name: _computing(analysis.unsupported_ops(name)) for name, _ in model.named_modules()},
        ]
    return found


def _computing(operators):
    """Leave out the marks that DataParallel sets for a profiler."""
    return {name: calls for name, calls in operators.items() if not name.startswith("profiler::")}


def texts(package, model, inputs):
    flops, acts = analyses(package, model, inputs)
    return [
        package.flop_count_str(flops),
        package.flop_count_str(flops, acts),
        package.flop_count_table(flops),
        package.flop_count_table(flops, activations=acts, max_depth=5),
        package.flop_count_table(flops, max_depth=1, show_param_shapes=False),
        package.parameter_count_table(model),
        package.parameter_count_table(model, max_depth=1),
    ]


def assert_same(model, inputs):
    twin = copy.deepcopy(model)
    assert answers(ours, model, inputs) == ask_fvcore(answers, theirs, twin, inputs)
    mine, their = texts(ours, model, inputs), ask_fvcore(texts, theirs, twin, inputs)
    assert mine[:-2] == their[:-2]
    assert mine[-2:] == their[-2:]


@settings(max_examples=200)
@given(models())
def test_every_number_and_every_text_is_fvcores_to_the_byte(model):
    without_absent(model)  # of which fvcore cannot print any
    if next(model.parameters(), None) is not None:  # fvcore's table of a model without parameters is a KeyError
        assert_same(model, torch.ones(SHAPE))


@settings(max_examples=100)
@given(models())
def test_callers_are_counted_as_fvcore_counts_them(model):
    without_absent(model)
    x = torch.ones(SHAPE)
    assert answers(ours, model, x, "caller") == ask_fvcore(answers, theirs, copy.deepcopy(model), x, "caller")


MODELS = {
    "resnet18": (3, 64, 64),
    "mobilenet_v3_small": (3, 64, 64),
    "shufflenet_v2_x0_5": (3, 64, 64),
    "squeezenet1_0": (3, 64, 64),
    "convnext_tiny": (3, 64, 64),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_torchvision_count_and_print_as_fvcore_has_them(name, train):
    install()
    model = pytest.importorskip("torchvision.models").get_model(name, weights=None).train(train)
    assert_same(model, torch.ones(2, *MODELS[name]))


def test_swin_transformer_differs_only_in_arithmetic_on_sizes_that_a_trace_holds():
    install()
    model = pytest.importorskip("torchvision.models").get_model("swin_t", weights=None).eval()
    x = torch.ones(1, 3, 64, 64)
    mine, their = answers(ours, model, x), ask_fvcore(answers, theirs, model, x)
    assert [*mine[:4], *mine[5:9]] == [*their[:4], *their[5:9]]
    assert mine[4][""].items() - their[4][""].items() == {("aten::mul", mine[4][""]["aten::mul"])}
    assert texts(ours, model, x) == ask_fvcore(texts, theirs, model, x)


class Mixed(nn.Module):
    """One of each operator that fvcore has a handle for."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc, self.layer = (
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
        )
        self.group, self.instance, self.up = nn.GroupNorm(3, 6), nn.InstanceNorm2d(6), nn.UpsamplingBilinear2d(8)
        self.pool, self.transposed = nn.AdaptiveAvgPool2d(4), nn.ConvTranspose2d(6, 6, 3, groups=2)

    def forward(self, x):
        y = self.layer(self.fc(self.group(self.norm(self.conv(x)))))
        z = torch.einsum("nchw,nchk->nwk", y, y @ y)
        a = self.pool(self.up(self.instance(self.transposed(y))))
        b = F.grid_sample(F.interpolate(a, scale_factor=2), torch.zeros(1, 3, 3, 2), align_corners=False)
        return torch.bmm(z, z), torch.mm(z[0], z[0]), torch.addmm(z[0], z[0], z[0]), a + 1, b.sigmoid()


@pytest.mark.parametrize("train", [True, False])
def test_every_operator_that_fvcore_has_a_handle_for(train):
    model, x = Mixed().train(train), torch.ones(1, 3, 6, 6)
    mine, their = answers(ours, model, x), ask_fvcore(answers, theirs, model, x)
    assert mine[:5] == their[:5]
    assert len(mine[0][""]) == len(flop_count._DEFAULT_SUPPORTED_OPS)
    mine[5][""].pop("mm")  # of which fvcore counts FLOPs and no activations
    assert mine[5] == their[5]


@pytest.mark.parametrize("train", [True, False])
def test_fvcores_own_handles_read_what_ours_are_given(train):
    model, x = Mixed().train(train), torch.ones(1, 3, 6, 6)
    mine = ours.JitModelAnalysis(model, x).set_op_handle(**flop_count._DEFAULT_SUPPORTED_OPS)
    mine.unsupported_ops_warnings(enabled=False)
    their = theirs.FlopCountAnalysis(model, x)
    assert mine.by_module_and_operator() == ask_fvcore(their.by_module_and_operator)
    assert mine.unsupported_ops() == their.unsupported_ops()
    activations = ours.JitModelAnalysis(model, x).set_op_handle(**activation_count._DEFAULT_SUPPORTED_OPS)
    activations.unsupported_ops_warnings(enabled=False)
    assert activations.total() == ask_fvcore(theirs.ActivationCountAnalysis(model, x).total)


def their_flops(function, *inputs):
    model = nn.Module()
    model.forward = function
    return ask_fvcore(theirs.FlopCountAnalysis(model, inputs).total)


def test_fvcores_numbers_are_wrong_where_ours_differ():
    """Claims of the drop-in's docstring."""
    a, b = torch.ones(2, 3), torch.ones(5, 3, 4)
    assert their_flops(torch.matmul, a, b) == 2 * 3 * 4  # of 5 such products
    with pytest.raises(IndexError):
        their_flops(torch.matmul, a, torch.ones(3))
    assert their_flops(lambda x, y: torch.einsum("i,j->ij", x, y), torch.ones(4), torch.ones(6)) == 12  # of 24
    assert their_flops(lambda x, y: (x @ y, x + 1)[1], torch.ones(3, 3), torch.ones(3, 3)) == 0
    assert their_flops(F.scaled_dot_product_attention, *[torch.ones(2, 2, 3, 5)] * 3) == 0
    assert their_flops(torch.baddbmm, *[torch.ones(2, 3, 3)] * 3) == 0
    exact = 101 * 103 * 107
    product = partial(torch.einsum, "nij,njk->nki")
    assert their_flops(product, torch.ones(1, 101, 103), torch.ones(1, 103, 107)) != exact  # four digits of it
    ignored = theirs.FlopCountAnalysis(nn.BatchNorm1d(3).eval(), torch.ones(2, 3)).set_op_handle(
        "aten::batch_norm", None
    )
    assert ask_fvcore(ignored.total) == 12  # though it was to be ignored
    ours_ignored = ours.FlopCountAnalysis(nn.BatchNorm1d(3).eval(), torch.ones(2, 3)).set_op_handle(
        "aten::batch_norm", None
    )
    assert ours_ignored.total() == 0


@pytest.mark.parametrize("name", ["levit_128s", "mixer_s16_224", "efficientformer_l1", "regnety_002"])
def test_models_of_timm_count_and_print_as_fvcore_has_them(name):
    install()
    model = pytest.importorskip("timm").create_model(name).eval()
    with torch.no_grad():
        assert_same(model, torch.ones(1, 3, 224, 224))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "distilbert", "mamba"])
def test_language_models_count_as_fvcore_has_them_but_for_attention_in_one_operator(kind):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if kind in {"gpt2", "distilbert"}:
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    config = transformers.AutoConfig.for_model(kind, **sizes, vocab_size=100)
    config.return_dict = config.use_cache = False
    words = torch.zeros(1, 16, dtype=torch.long)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    mine, their = answers(ours, model, words), ask_fvcore(answers, theirs, model, words)
    assert [*mine[:4], *mine[5:9]] == [*their[:4], *their[5:9]]
    assert texts(ours, model, words) == ask_fvcore(texts, theirs, model, words)
    if kind != "mamba":
        fused = transformers.AutoModel.from_config(config, attn_implementation="sdpa").eval()
        assert answers(ours, fused, words)[2] == mine[2]
        assert ask_fvcore(answers, theirs, fused, words)[2] < mine[2]
