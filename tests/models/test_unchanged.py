"""Real models compute the same bits with and without a counter, in every mode that their users run them in."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from copy import deepcopy

import pytest
import torch
from torch import nn

from opcount import OpCounter
from tests.features import skipped_without_kernel
from tests.models.test_torch import UNet
from tests.shims import define_torchvision_operators

define_torchvision_operators()
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 50}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def tokens():
    return {"input_ids": torch.arange(3, 15).reshape(2, 6)}


def text(name, **config):
    def build():
        settings = transformers.AutoConfig.for_model(name, **SMALL, **SPECIAL, **config)
        return transformers.AutoModel.from_config(settings), tokens()

    return build


def image(name, size=32, **options):
    return lambda: (timm.create_model(name, num_classes=5, **options), {"x": torch.randn(2, 3, size, size)})


MODELS = {
    "bert": text("bert"),
    "llama": text("llama", num_key_value_heads=1),
    "mixtral": text("mixtral", num_key_value_heads=1, num_local_experts=3),
    "mamba": text("mamba", state_size=4),
    "resnet": image("resnet10t"),
    "vit": image("vit_tiny_patch16_224", img_size=32, depth=1),
    "efficientnet": image("efficientnet_lite0"),
    "unet": lambda: (UNet(), {"x": torch.randn(1, 1, 16, 16)}),
    "lstm": lambda: (nn.LSTM(4, 8, bidirectional=True), {"input": torch.randn(5, 2, 4)}),
    "encoder": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 1),
        {"src": torch.randn(2, 5, 16)},
    ),
}


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@contextmanager
def autocast_inference():
    with torch.inference_mode(), autocast():
        yield


MODES = {
    "train": (True, nullcontext),
    "eval": (False, nullcontext),
    "no_grad": (False, torch.no_grad),
    "inference": (False, torch.inference_mode),
    "autocast": (False, autocast),
    "autocast inference": (False, autocast_inference),
}


def first(out):
    return out[0] if not isinstance(out, torch.Tensor) else out


def bits(model, inputs, mode, counter):
    """Run once from one seed; return the output, all gradients and all buffers."""
    model = deepcopy(model)
    torch.manual_seed(1)
    with MODES[mode][1](), counter():
        out = first(model(**inputs))
        if out.requires_grad:
            out.float().square().sum().backward()
    return [out, *(p.grad for p in model.parameters()), *model.buffers(), torch.get_rng_state()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_a_counted_model_computes_the_same_bits(name, mode):
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    model, inputs = MODELS[name]()
    model.train(MODES[mode][0])
    with skipped_without_kernel():
        bare = bits(model, inputs, mode, nullcontext)
    seen = bits(model, inputs, mode, OpCounter)
    transformers.logging.set_verbosity(level)
    assert len(bare) == len(seen)
    for a, b in zip(bare, seen, strict=True):
        assert (a is None and b is None) or (a.dtype == b.dtype and torch.equal(a, b))
