"""Llama-3.1-405B from its published configuration, on whatever machine runs the tests, equal to arithmetic by hand."""

import json
import subprocess
import sys

import pytest

from opcount import Profile
from tests.cli.conftest import PATH
from tests.shims import child_environment

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, WORDS = 126, 16384, 53248, 128, 8, 128256
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": 128,
    "vocab_size": WORDS, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "hidden_act": "silu",
    "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "attention_bias": False, "mlp_bias": False, "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip

SEQUENCE = 2048
KV = KV_HEADS * HIDDEN // HEADS
WEIGHTS = LAYERS * (2 * HIDDEN**2 + 2 * HIDDEN * KV + 3 * HIDDEN * INNER) + HIDDEN * WORDS
"""Parameters of the matrices: queries and outputs, keys and values, the gated inner layer; and the output's words."""

PRODUCTS = SEQUENCE * WEIGHTS
ATTENTION = LAYERS * SEQUENCE**2 * HIDDEN
"""Cost of one of attention's two products, scores or values."""

PARAMETERS = WEIGHTS + WORDS * HIDDEN + (2 * LAYERS + 1) * HIDDEN
TENSORS = 9 * LAYERS + 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a process's own peak from /proc"),
]

MEASURED = """
import atexit, re, runpy

def note():
    with open("/proc/self/status") as status, open("peak", "w") as peak:
        peak.write(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1])

atexit.register(note)
runpy.run_module("opcount", run_name="__main__", alter_sys=True)
"""
"""Runs opcount and writes the peak of its memory, in kB; what the system tells of a child includes its parent's."""


@pytest.fixture
def count(tmp_path):
    """Return a function that counts by a process of its own: the profile, and the process's peak memory in bytes."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    target = ["transformers/config.json", "--dry-run", "--seq", str(SEQUENCE)]

    def run(*options):
        command = [sys.executable, "-c", MEASURED, "count", *target, *options, "-o", "llama.json"]
        environment = child_environment(PYTHONPATH=PATH)
        subprocess.run(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, check=True)
        return Profile.from_json((tmp_path / "llama.json").read_text()), 1024 * int((tmp_path / "peak").read_text())

    return run


def test_forward(count):
    profile, memory = count()
    assert profile.params == PARAMETERS == 405_853_388_800
    assert profile.macs == PRODUCTS + 2 * ATTENTION
    assert profile.coverage.complete
    assert memory < 10**9


def test_a_training_step(count):
    profile, memory = count("--train")
    phases = profile.by_phase()
    assert phases["forward"].macs == PRODUCTS + 2 * ATTENTION
    assert phases["backward"].macs == 2 * PRODUCTS + 5 * ATTENTION  # the fused kernel computes the scores again
    decay, momentum, second_moment, denominator, step = 1, 3, 1 + 3, 1 + 1 + 1, 3
    adamw = decay + momentum + second_moment + denominator + step
    assert phases["optimizer"].arith == adamw * PARAMETERS + TENSORS  # each tensor counts its steps
    assert phases["optimizer"].macs == 0
    assert profile.coverage.complete
    assert memory < 10**9
