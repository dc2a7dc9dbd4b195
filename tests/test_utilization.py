"""Model and hardware FLOPs: recomputation and what fused attention computes again told apart; MFU and HFU."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (as everybody calls it)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from opcount import Cost, Device, OpCounter, Profile, formula
from opcount.errors import DeviceError, InputError, ProfileFormatError
from opcount.formulas.attention import backward as backward_cost
from opcount.profile import Record

B, H, L, S, E, EV = 2, 3, 5, 7, 4, 4
FORWARD = 2 * B * H * L * S * (E + EV)
AGAIN = 2 * B * H * L * S * E
DEVICE = Device(name="toy", peaks={"float32": 1e9, "float64": 0.5e9}, bandwidth=1e9)


def operands(l=L, s=S, ev=EV):  # noqa: E741
    return [torch.rand(B, H, n, e, requires_grad=True) for n, e in ((l, E), (s, E), (s, ev))]


def attend(*, causal=False, backend=SDPBackend.FLASH_ATTENTION, **sizes):
    """Count attention, forward and backward."""
    q, k, v = operands(**sizes)
    with sdpa_kernel(backend), OpCounter() as c:
        F.scaled_dot_product_attention(q, k, v, is_causal=causal).sum().backward()
    return c


def test_what_a_fused_backward_computes_again_is_no_model_flops():
    c = attend()
    assert c.hardware_flops == 2 * c.macs == 3 * FORWARD + AGAIN
    assert c.model_flops == 3 * FORWARD
    assert (c.profile.model_flops, c.profile.hardware_flops) == (c.model_flops, c.hardware_flops)


@pytest.mark.parametrize("sizes", [{}, {"l": 9, "s": 9}, {"l": 1}])
def test_fused_and_decomposed_attention_have_the_same_model_flops(sizes):
    fused, math = attend(**sizes), attend(backend=SDPBackend.MATH, **sizes)
    assert fused.model_flops == math.model_flops == math.hardware_flops
    assert fused.hardware_flops > math.hardware_flops


def test_calls_of_unlike_widths_that_share_a_record_are_told_apart():
    scores = B * H * L * S
    both = backward_cost(*operands(ev=2)) + backward_cost(*operands(ev=9))
    assert both.repeated == 2 * scores * E
    assert both.macs - both.repeated == 2 * scores * (E + 2) + 2 * scores * (E + 9)


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_half_of_causal_attention_is_masked_where_the_kernel_is_told_so(backend):
    c = attend(causal=True, backend=backend, l=8, s=8)
    full = 3 * 2 * B * H * 8 * 8 * (E + EV)
    assert c.model_flops == c.model_flops_when(causal="full") == full
    fused = backend is SDPBackend.FLASH_ATTENTION
    assert c.model_flops_when(causal="half") == (full / 2 if fused else full)  # products know nothing of a mask
    assert attend(l=8, s=8).model_flops_when(causal="half") == full


def test_a_causal_convention_that_does_not_exist_is_refused():
    for ask in (
        lambda: attend().model_flops_when(causal="none"),
        lambda: attend().profile.mfu(1, DEVICE, causal=0.5),
    ):
        with pytest.raises(InputError, match="expected causal to be one of 'full', 'half', got"):
            ask()


def test_the_recompute_phase_is_no_model_flops():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    x = torch.rand(4, 8, requires_grad=True)
    with OpCounter(model) as plain:
        model(x).sum().backward()
    with OpCounter(model) as again:
        checkpoint(model, x, use_reentrant=False).sum().backward()
    assert plain.model_flops == plain.hardware_flops == again.model_flops == 6 * 2 * 4 * 8 * 8
    assert again.hardware_flops == 7 * 2 * 4 * 8 * 8  # the last layer's result is not needed


def test_attention_that_is_computed_again_by_a_checkpoint_counts_once():
    q, k, v = operands()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), OpCounter() as c:
        checkpoint(F.scaled_dot_product_attention, q, k, v, use_reentrant=True).sum().backward()
    assert c.model_flops == 3 * FORWARD
    assert c.hardware_flops == 4 * FORWARD + AGAIN


class Block(nn.Module):
    """A layer of a transformer, without biases."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x):
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def test_a_training_step_of_a_transformer_is_what_nanogpt_and_palm_write_by_hand():
    layers, heads, width, hidden, words, batch, tokens = 3, 4, 32, 128, 50, 2, 16
    model = nn.Sequential(
        nn.Embedding(words, width),
        *(Block(width, heads, hidden) for _ in range(layers)),
        nn.Linear(width, words, bias=False),
    )
    with OpCounter(model) as c:
        model(torch.zeros(batch, tokens, dtype=torch.long)).sum().backward()
    matrices = layers * (4 * width * width + 2 * width * hidden) + width * words  # the embedding multiplies nothing
    by_hand = 6 * matrices + 12 * layers * heads * (width // heads) * tokens  # 6 N + 12 L H Q T, for each token
    assert c.model_flops == batch * tokens * by_hand
    masked = batch * tokens * (6 * matrices + 6 * layers * width * tokens)  # as FlashAttention counts
    assert c.model_flops_when(causal="half") == masked
    assert c.profile.mfu(0.5, DEVICE) == pytest.approx(batch * tokens * by_hand / 0.5 / 1e9)
    assert c.mfu(0.5, DEVICE, causal="half") == pytest.approx(masked / 0.5 / 1e9)
    assert c.hfu(0.5, DEVICE) == pytest.approx(c.hardware_flops / 0.5 / 1e9)
    assert c.hardware_flops - c.model_flops == batch * layers * 2 * width * tokens**2  # the scores, once more


def test_the_convention_of_a_count_does_not_change_them():
    c = attend()
    for convention in ("fvcore", "macs", "torch", "full"):
        read = c.profile.with_convention(convention)
        assert (read.model_flops, read.hardware_flops) == (c.model_flops, c.hardware_flops)


def test_they_are_kept_by_files_sums_selections_and_samples():
    profile = attend(causal=True).profile
    stored = Profile.from_json(profile.to_json())
    assert stored == profile
    assert stored.model_flops_when(causal="half") == profile.model_flops_when(causal="half")
    assert (profile + profile).model_flops == 2 * profile.model_flops
    assert profile.select(lambda r: r.phase == "backward").model_flops == 2 * FORWARD
    c = OpCounter(every=3)
    for _ in range(7):
        with c, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            F.scaled_dot_product_attention(*operands(), is_causal=True).sum().backward()
    assert c.extrapolated().model_flops == 7 * 3 * FORWARD
    assert c.extrapolated().model_flops_when(causal="half") == 7 * 3 * FORWARD / 2


def test_a_file_of_a_version_that_did_not_know_them_is_refused():
    data = json.loads(attend().profile.to_json())
    data["schema"] = 1
    for record in data["records"]:
        record["bytes"] = record.pop("bytes_written")
        for name in ("bytes_read", "repeated", "causal"):
            del record[name]
    old = Profile.from_json(json.dumps(data))
    assert old.hardware_flops == 3 * FORWARD + AGAIN
    with pytest.raises(ProfileFormatError, match="Count again"):
        assert old.model_flops


def test_a_formula_of_the_users_may_say_what_is_computed_again():
    @torch.library.custom_op("opcount_test::fused_backward", mutates_args=())
    def fused_backward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @formula("opcount_test::fused_backward")
    def price(out, x):
        return Cost(macs=10, repeated=3, causal=4)

    with OpCounter() as c:
        fused_backward(torch.ones(2))
    assert (c.hardware_flops, c.model_flops, c.model_flops_when(causal="half")) == (20, 14, 10)


def test_each_dtype_is_divided_by_its_own_peak():
    single, double = (torch.rand(8, 8, dtype=dtype) for dtype in (torch.float32, torch.float64))
    with OpCounter() as c:
        single @ single
        double @ double
    assert c.mfu(2.0, DEVICE) == pytest.approx(2 * 8**3 * (1 / 1e9 + 1 / 0.5e9) / 2)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), None, "1 s", True])
def test_a_time_that_is_no_positive_number_is_refused(seconds):
    for rate in (attend().mfu, attend().profile.hfu):
        with pytest.raises(InputError, match="expected a positive number of seconds, got"):
            rate(seconds, DEVICE)


def test_an_unknown_device_and_a_dtype_without_a_peak_are_refused():
    with pytest.raises(DeviceError, match="expected a device with known peaks, got 'H800'"):
        attend().mfu(1.0, "H800")
    with pytest.raises(DeviceError, match=r"TPU-v4: expected a dtype with a known peak .* got 'float32'"):
        attend().mfu(1.0, "TPU-v4")


def test_integers_that_multiply_nothing_need_no_peak():
    with OpCounter() as c:
        torch.arange(8) + 1
        torch.rand(4, 4) @ torch.rand(4, 4)
    assert c.mfu(1.0, DEVICE) > 0


def test_a_record_alone_has_no_repeated_macs():
    assert Record(("",), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(3)).repeated == 0
