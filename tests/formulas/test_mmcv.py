"""The functions of mmcv themselves, over kernels that do nothing: their arguments are those that formulas expect."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from opcount import OpCounter
from opcount.registry import BUILTIN
from tests import shims
from tests.features import sees_kept_apply

pytest.importorskip("mmcv")
pytestmark = pytest.mark.filterwarnings("ignore")  # what mmcv does when it is imported

X = (1, 4, 6, 6)
ROIS = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
TURNED = torch.tensor([[0, 2.0, 2.0, 4.0, 4.0, 0.5]])
POINTS = torch.rand(2, 8, 3)
INDEX = torch.zeros(2, 8, 3, dtype=torch.int32)


def rand(*shape):
    return torch.rand(shape, requires_grad=True)


def ones(*shape):
    return torch.ones(shape)


ATTENTION = (
    rand(1, 20, 2, 4), torch.tensor([[4, 4], [2, 2]]), torch.tensor([0, 16]), rand(1, 3, 2, 2, 2, 2),
    rand(1, 3, 2, 2, 2), 64,
)  # fmt: skip

CALLS = [
    # file, class, arguments, MACs forward and backward; None where there is no backward
    ("roi_align", "RoIAlignFunction", (rand(*X), ROIS, (2, 2), 1.0, 2, "avg", True), 0, 0),
    ("roi_align_rotated", "RoIAlignRotatedFunction", (rand(*X), TURNED, (2, 2), 1.0, 2, True, False), 0, 0),
    ("riroi_align_rotated", "RiRoIAlignRotatedFunction", (rand(1, 8, 6, 6), TURNED, 2, 1.0, 2, 8, False), 0, 0),
    ("roi_pool", "RoIPoolFunction", (rand(*X), ROIS, 2, 1.0), 0, 0),
    ("prroi_pool", "PrRoIPoolFunction", (rand(*X), ROIS, (2, 2), 1.0), 0, 0),
    ("deform_roi_pool", "DeformRoIPoolFunction", (rand(*X), ROIS, rand(1, 2, 2, 2), (2, 2), 1.0, 2, 0.1), 0, 0),
    ("bezier_align", "BezierAlignFunction", (rand(*X), torch.rand(1, 17), (2, 4), 1.0, 2, True), 0, 0),
    ("border_align", "BorderAlignFunction", (rand(*X), torch.rand(1, 36, 4), 3), 0, 0),
    ("rotated_feature_align", "RotatedFeatureAlignFunction", (rand(*X), torch.rand(1, 6, 6, 5), 1.0, 5), 0, 0),
    (
        "deform_conv", "DeformConv2dFunction",
        (rand(*X), rand(1, 18, 6, 6), rand(4, 2, 3, 3), 1, 1, 1, 2, 1, False, 32), 4 * 36 * 18, 2 * 4 * 36 * 18,
    ),
    (
        "modulated_deform_conv", "ModulatedDeformConv2dFunction",
        (rand(*X), rand(1, 18, 6, 6), rand(1, 9, 6, 6), rand(3, 4, 3, 3), rand(3), 1, 1, 1, 1, 1),
        3 * 36 * 36, 2 * 3 * 36 * 36,
    ),
    ("multi_scale_deform_attn", "MultiScaleDeformableAttnFunction", ATTENTION, 3 * 8 * 4, 4 * 3 * 8 * 4),
    ("carafe", "CARAFEFunction", (rand(*X), rand(1, 9, 12, 12), 3, 1, 2), 4 * 144 * 9, 2 * 4 * 144 * 9),
    ("correlation", "CorrelationFunction", (rand(*X), rand(*X), 1, 2, 1, 0, 1, 1), 25 * 36 * 4, 2 * 25 * 36 * 4),
    ("masked_conv", "MaskedConv2dFunction", (rand(*X), ones(1, 6, 6), rand(3, 4, 3, 3), rand(3), 1), 3 * 36 * 36, None),
    ("psa_mask", "PSAMaskFunction", (rand(1, 9, 3, 3), 0, (3, 3)), 0, 0),
    ("tin_shift", "TINShiftFunction", (rand(1, 4, 4, 9), torch.zeros(1, 2, dtype=torch.int32)), 0, None),
    ("focal_loss", "SigmoidFocalLossFunction", (rand(4, 3), torch.zeros(4).long(), 2.0, 0.25, None, "mean"), 0, 0),
    ("focal_loss", "SoftmaxFocalLossFunction", (rand(4, 3), torch.zeros(4).long(), 2.0, 0.25, None, "sum"), 0, 0),
    ("fused_bias_leakyrelu", "FusedBiasLeakyReLUFunction", (rand(*X), rand(4), 0.2, 1.4), 0, 0),
    ("active_rotated_filter", "ActiveRotatedFilterFunction", (rand(2, 2, 1, 3, 3), torch.ones(1, 3, 3, 2).int()), 0, 0),
    ("assign_score_withk", "AssignScoreWithK",
        (rand(1, 3, 2, 4), rand(1, 5, 4, 6), rand(1, 5, 4, 6), torch.zeros(1, 3, 2).long(), "sum"), 36 * 4, 3 * 36 * 4),
    ("chamfer_distance", "ChamferDistanceFunction", (rand(1, 4, 2), rand(1, 5, 2)), 0, 0),
    ("furthest_point_sample", "FurthestPointSamplingWithDist", (torch.rand(2, 8, 8), 3), 0, None),
    ("gather_points", "GatherPoints", (rand(2, 3, 8), INDEX[:, :, 0].contiguous()), 0, 0),
    ("group_points", "GroupingOperation", (rand(2, 3, 8), INDEX), 0, 0),
    ("three_nn", "ThreeNN", (POINTS, POINTS), 0, None),
    ("three_interpolate", "ThreeInterpolate", (rand(2, 3, 8), INDEX, torch.rand(2, 8, 3)), 0, 0),
    ("voxelize", "_Voxelization", (torch.rand(8, 4), [1.0] * 3, [0.0] * 3 + [4.0] * 3, -1, -1, True), 0, None),
    ("nms", "NMSop", (torch.rand(3, 4), torch.rand(3), 0.5, 0, 0, -1), 0, None),
]  # fmt: skip


class Kernels:
    """An extension whose kernels leave the outputs, which the caller made, as they are."""

    def __getattr__(self, _name):
        return lambda *_args, **_kwargs: None

    @staticmethod
    def nms(boxes, *_args, **_kwargs):
        return torch.arange(len(boxes))

    @staticmethod
    def ms_deform_attn_forward(value, _shapes, _starts, places, *_args, **_kwargs):
        return value.new_empty(value.shape[0], places.shape[1], value.shape[2] * value.shape[3])

    @staticmethod
    def fused_bias_leakyrelu(x, *_args, **_kwargs):
        return torch.from_numpy(x.detach().numpy().copy())


@pytest.mark.parametrize(("file", "name", "args", "forward", "backward"), CALLS)
def test_a_function_of_mmcv_is_accounted_for(monkeypatch, file, name, args, forward, backward):
    shims.install()
    module = import_module(f"mmcv.ops.{file}")
    monkeypatch.setattr(module, "ext_module", Kernels())
    with OpCounter(strict=True) as counter:
        out = getattr(module, name).apply(*args)
        first = out[0] if isinstance(out, tuple) else out
        if backward is not None:
            first.sum().backward()
    phases = {phase: total.macs for phase, total in counter.by_phase().items()}
    assert (phases.get("forward", 0), phases.get("backward", 0)) == (forward, backward or 0)
    assert f"autograd.{name}" in {*counter.by_operator(), *counter.coverage.free}


ARITHMETIC = {
    # 1 region, 4 channels, 2 x 2 bins of 2 x 2 samples: 64 of 5 operations; backward spreads as many
    "RoIAlignFunction": (64 * 5, 64 * 5),
    "RoIAlignRotatedFunction": (64 * 5, 64 * 5),
    "BezierAlignFunction": (2 * 64 * 5, 2 * 64 * 5),  # 2 x 4 bins
    "RotatedFeatureAlignFunction": (4 * 36 * 5 * 5, 4 * 36 * 5 * 5),  # 5 points
    # 36 places, 4 channels, 9 taps: samples of 4 operations; backward 3 times for what is sampled, once for the weight
    "DeformConv2dFunction": (36 * 4 * 9 * 4, 4 * 36 * 4 * 9 * 4),
    # one more for the mask, and one for each of 3 x 36 outputs for the bias
    "ModulatedDeformConv2dFunction": (36 * 4 * 9 * 5 + 108, 4 * 36 * 4 * 9 * 5 + 108),
    "PSAMaskFunction": (0, 0),
    "ActiveRotatedFilterFunction": (0, 4 * 2 * 9),  # each of two turned copies of 4 x 9 weights adds its gradient
    "NMSop": (0, 0),
}
"""Operations besides MACs of the functions that have kernels for a CPU, forward and backward."""


@pytest.mark.skipif(not shims.mmcv_is_compiled(), reason="the operators of mmcv are not compiled")
@pytest.mark.parametrize(
    ("file", "name", "args", "forward", "backward"), [call for call in CALLS if call[1] in ARITHMETIC]
)
def test_a_function_over_the_kernels_of_mmcv_counts_its_closed_form_alone(file, name, args, forward, backward):
    module = import_module(f"mmcv.ops.{file}")
    leaves = [arg.detach().requires_grad_(arg.requires_grad) if isinstance(arg, torch.Tensor) else arg for arg in args]
    with OpCounter(strict=True) as counter:
        out = getattr(module, name).apply(*leaves)
        first = out[0] if isinstance(out, tuple) else out
        if backward is not None:
            first.backward(torch.ones_like(first))
    costs = {phase: (total.macs, total.arith) for phase, total in counter.by_phase().items()}
    found = (costs.get("forward", (0, 0)), costs.get("backward", (0, 0)))
    assert found == tuple(zip((forward, backward or 0), ARITHMETIC[name], strict=True))


def on_meta(value):
    return value.to("meta") if isinstance(value, torch.Tensor) else value


NEED_NUMBERS = {"RoIPoolFunction", "PrRoIPoolFunction", "MaskedConv2dFunction"}
"""Functions whose work depends on the numbers of an argument."""


@pytest.mark.parametrize(("file", "name", "args"), [call[:3] for call in CALLS if call[1] not in NEED_NUMBERS])
def test_a_formula_asks_for_sizes_and_not_for_numbers(monkeypatch, file, name, args):
    shims.install()
    module = import_module(f"mmcv.ops.{file}")
    monkeypatch.setattr(module, "ext_module", Kernels())
    out = getattr(module, name).apply(*args)
    price = BUILTIN.find([f"autograd.{name}"])[0].price
    on_meta_out = tuple(map(on_meta, out)) if isinstance(out, tuple) else on_meta(out)
    assert price(on_meta_out, *map(on_meta, args)) == price(out, *args)


def run(monkeypatch, file, name, *args, **options):
    """Count a module of mmcv by its parts."""
    shims.install()
    module = import_module(f"mmcv.ops.{file}")
    monkeypatch.setattr(module, "ext_module", Kernels())
    layer = getattr(module, name)(**options)
    with torch.no_grad(), OpCounter(layer, strict=True) as counter:
        layer(*args)
    return counter, layer


@sees_kept_apply
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("name", ["DeformConv2dPack", "ModulatedDeformConv2dPack"])
def test_a_deformable_layer_counts_the_convolution_in_its_place_and_the_one_that_finds_offsets(
    monkeypatch, name, groups, stride
):
    x = torch.rand(2, 8, 6, 6)
    options = {"kernel_size": 3, "stride": stride, "padding": 1, "groups": groups}
    file = "modulated_deform_conv" if "Modulated" in name else "deform_conv"
    counter, layer = run(monkeypatch, file, name, x, in_channels=8, out_channels=4, **options)
    with OpCounter() as plain:
        torch.nn.Conv2d(8, 4, bias=False, **options)(x)
        layer.conv_offset(x)
    assert counter.macs == plain.macs
    assert counter.activations == plain.activations


def test_deformable_attention_counts_all_that_its_slow_path_does(monkeypatch):
    shims.install()
    module = import_module("mmcv.ops.multi_scale_deform_attn")
    layer = module.MultiScaleDeformableAttention(embed_dims=16, num_heads=2, num_levels=2, num_points=4)
    query, value = torch.rand(20, 1, 16), torch.rand(20, 1, 16)
    shapes, starts = torch.tensor([[4, 4], [2, 2]]), torch.tensor([0, 16])
    options = {"reference_points": torch.rand(1, 20, 2, 2), "spatial_shapes": shapes, "level_start_index": starts}
    with torch.no_grad(), OpCounter(layer) as slow:
        layer(query, value=value, **options)
    monkeypatch.setattr(module, "ext_module", Kernels())
    # The kernel is asked for where there is a GPU.
    slow_path = module.multi_scale_deformable_attn_pytorch
    function = module.MultiScaleDeformableAttnFunction
    monkeypatch.setattr(
        module,
        slow_path.__name__,
        lambda value, shapes, places, weights: function.apply(value, shapes, starts, places, weights, 64),
    )
    with torch.no_grad(), OpCounter(layer, strict=True) as fused:
        layer(query, value=value, **options)
    samples = 20 * 16 * 2 * 4
    assert fused.macs == slow.macs + samples
    moved = 2 * 20 * 2 * 2 * 4 * 2  # the slow path turns places into grid coordinates: 2 * place - 1
    areas = 2  # and multiplies the sides of each level
    full = [2 * c.macs + c.profile.total.arith for c in (fused, slow)]
    assert full[0] == full[1] - moved - areas
