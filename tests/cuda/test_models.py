"""Training steps on CUDA count what a dry run on the CPU says: to the module, whatever kernels the device chooses."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

from opcount import OpCounter
from tests.cuda import needs_cuda

needs_cuda()


class Attention(nn.Module):
    """Self-attention of 4 heads, as fused kernels are given it."""

    def __init__(self, width=128):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, groups=4), nn.GroupNorm(4, 32), nn.GELU(), nn.ConvTranspose2d(32, 8, 2, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 4),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(16, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True), 2)


MODELS = {
    "convolutions": (convnet, (4, 3, 32, 32)),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 10, 16)),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True), 2),
        (4, 10, 32),
    ),
    "attention": (Attention, (2, 64, 128)),
}


def step(model, x, optimizer, dtype=None):
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def counted(build, size, *, cuda, **how):
    torch.manual_seed(0)
    device = "cuda" if cuda else "cpu"
    model, x = build().to(device), torch.randn(size, device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with OpCounter(model, dry_run=not cuda) as c:
        step(model, x, optimizer, **how)
    assert c.coverage.complete, c.coverage
    return c


def asked_for(c):
    """Return the MACs of each module and phase, without those that a fused backward of attention computes again."""
    found = Counter()
    for row in c.profile.records:
        found[row.path, row.phase] += row.cost.macs - row.repeated
    return {place: macs for place, macs in found.items() if macs}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_counts_as_a_dry_run_on_the_cpu(name, dtype):
    real, dry = (counted(*MODELS[name], cuda=cuda, dtype=dtype) for cuda in (True, False))
    assert asked_for(real) == asked_for(dry)
    assert real.model_flops == dry.model_flops


def test_a_recurrent_kernel_computes_gradients_that_nobody_asked_for():
    real, dry = (counted(lambda: Recurrent(nn.GRU), (4, 10, 16), cuda=cuda) for cuda in (True, False))
    of_input = 2 * 4 * 10 * 96 * 16  # two directions; a GRU on a CPU is single steps, which leave these out
    of_first_state = 4 * 4 * 96 * 32  # two layers of two directions
    assert real.macs - dry.macs == of_input + of_first_state


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_memory_formats_of_convolutions_count_alike(layout):
    model = convnet().cuda().to(memory_format=layout)
    x = torch.randn(4, 3, 32, 32, device="cuda").to(memory_format=layout)
    with OpCounter(model) as c:
        model(x).sum().backward()
    with OpCounter(convnet()) as plain:
        plain_model = convnet()
        plain_model(x.cpu()).sum().backward()
    assert c.macs == plain.macs


@pytest.mark.parametrize(
    "backend",
    [SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION],
    ids=lambda b: b.name.lower(),
)
def test_every_attention_kernel_counts_its_products(backend):
    b, heads, s, e = 2, 4, 128, 64
    q, k, v = (torch.randn(b, heads, s, e, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    with sdpa_kernel(backend), OpCounter() as c:
        F.scaled_dot_product_attention(q, k, v).sum().backward()
    product = b * heads * s * s * e
    phases = {phase: total.macs for phase, total in c.by_phase().items()}
    again = 0 if backend is SDPBackend.MATH else product  # a fused backward computes the scores again
    assert phases == {"forward": 2 * product, "backward": 4 * product + again}
    assert c.model_flops == 2 * 6 * product
    assert c.coverage.complete


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
def test_optimizers_do_the_same_arithmetic_whatever_their_kernels(options):
    model = nn.Linear(64, 64).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    model(torch.randn(8, 64, device="cuda")).sum().backward()
    with OpCounter(model) as c:
        optimizer.step()
    assert c.coverage.complete
    elements = sum(p.numel() for p in model.parameters())
    assert 10 * elements <= c.arith <= 20 * elements
    assert set(c.by_phase()) == {"optimizer"}


def test_a_scaler_of_gradients_is_counted():
    model = nn.Linear(32, 32).cuda()
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cuda")
    with OpCounter(model) as c:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = model(torch.randn(4, 32, device="cuda")).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert c.coverage.complete
    assert c.macs == 2 * 4 * 32 * 32
    assert {str(dtype) for dtype, total in c.by_dtype().items() if total.macs} == {"float16"}


def resnet():
    return pytest.importorskip("torchvision").models.resnet18(), torch.randn(2, 3, 64, 64)


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=100, n_positions=32)
    return transformers.GPT2LMHeadModel(config), torch.randint(100, (2, 32))


def vit():
    return pytest.importorskip("timm").create_model("vit_tiny_patch16_224", depth=2), torch.randn(2, 3, 224, 224)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [resnet, gpt2, vit])
def test_a_model_of_a_library_counts_as_a_dry_run_on_the_cpu(build):
    counts = []
    for cuda in (True, False):
        model, x = build()
        if cuda:
            model, x = model.cuda(), x.cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        with OpCounter(model, dry_run=not cuda) as c:
            out = model(x)
            getattr(out, "logits", out).float().square().mean().backward()
            optimizer.step()
        assert c.coverage.complete
        counts.append(asked_for(c))
    assert counts[0] == counts[1]
