"""The example that trains a Llama: its ranks add up to the closed form, and keep what ZeRO says."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from opcount.distributed import RankKind, World, simulate
from opcount.distributed.simulate_ranks import representatives
from tests.features import VERSION

SCRIPT = Path(__file__).parents[2] / "scripts" / "examples" / "train_llama.py"
CONFIG = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 10,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
}
PP, DP, TP, SEQ, MICROBATCHES = 4, 2, 4, 64, 4
WORLD = PP * DP * TP

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:DTensor random operators may not have complete support:UserWarning"),
    pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning"),
]


def products_of_a_layer(config):
    """Return the elements of the weights that a layer multiplies by: q and o, k and v, three of the SwiGLU."""
    width, shared = config["hidden_size"], config["num_key_value_heads"] * head(config)
    return 2 * width * width + 2 * width * shared + 3 * width * config["intermediate_size"]


def head(config):
    return config["hidden_size"] // config["num_attention_heads"]


def rank_of(rank, world, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, options)])
    with simulate(world=world, rank=rank) as counter:
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert not dist.is_initialized()
    return counter.profile


@pytest.fixture
def whole(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    options = ["--config", file, "--tp", TP, "--pp", PP, "--seq", SEQ, "--microbatches", MICROBATCHES]
    first = rank_of(0, WORLD, monkeypatch, *options)
    return World(tuple(
        RankKind(rank, count, rank_of(rank, WORLD, monkeypatch, *options) if rank else first)
        for rank, count in representatives(first, WORLD)
    ))  # fmt: skip


def test_kinds_of_ranks_add_up_to_the_closed_form_and_keep_what_zero_says(whole):
    width, layers, words = (CONFIG[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size"))
    assert [(kind.rank, kind.count) for kind in whole.kinds] == [(0, 8), (16, 16), (24, 8)]
    sequences = DP * MICROBATCHES
    products = layers * products_of_a_layer(CONFIG) + width * words
    attention = layers * CONFIG["num_attention_heads"] * SEQ * SEQ * 2 * head(CONFIG)
    # forward once, backward twice; fused attention's backward has 5 products for the forward's 2
    macs = 3 * sequences * SEQ * products + sequences * attention * 7 // 2
    assert whole.total(lambda profile: profile.macs) == macs
    for kind, own in zip(whole.kinds, (words * width, 0, words * width), strict=True):
        here = 2 if own else 3
        norms = (2 * here + (kind.rank == 24)) * width
        local = (here * products_of_a_layer(CONFIG) + own) // (TP * DP) + norms // DP
        update = kind.profile.by_phase()["optimizer"]
        steps = 4 * (9 * here + (1 if kind.rank == 0 else 2 if own else 0))
        # AdamW: parameter, gradient and two states are read, all but the gradient are written, in float32
        assert update.bytes_read - steps == 16 * local
        assert update.bytes_written - steps == 12 * local
        # ZeRO: 4 B for each, all sharded
        assert kind.profile.memory.phase_peaks["optimizer"] >= 16 * local


def test_a_rank_of_llama_405b_is_counted_with_all_its_costs(monkeypatch):
    config = {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128, "num_key_value_heads": 8}
    profile = rank_of(512, 8192, monkeypatch, "--microbatches", 16)
    here, sequences, seq = 8, 16, 8192
    attention = here * 128 * seq * seq * 2 * head(config)
    macs = 3 * sequences * seq * here * products_of_a_layer(config) + sequences * attention * 7 // 2
    assert profile.macs == macs // 8
    local = here * products_of_a_layer(config) // (8 * 64) + here * 2 * 16384 // 64
    assert profile.by_phase()["optimizer"].bytes_written == 12 * local + 4 * 9 * here
    sent = profile.communication.by_group()
    assert set(sent) >= {"tp", "dp", "pp"}
    # bfloat16 activations of a microbatch's part of the sequence: received and sent, and their gradients
    activations = 4 * sequences * 2 * seq // 8 * 16384
    # numbers of 4 bytes, by which stages meet: from 2.15 on a vote, and a message and a barrier for each neighbour
    meeting = 1 + 2 * 2 if VERSION >= (2, 15) else 2 * 2
    assert sent["pp"].buffer_bytes == activations + 4 * meeting
    assert profile.memory.peak > 16 * local
