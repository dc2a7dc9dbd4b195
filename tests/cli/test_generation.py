"""Generated text, ``--prefill``, ``--decode`` and ``--cache``, against arithmetic by hand and forwards by hand."""

import inspect
import json

import pytest
import torch

from opcount import Device, OpCounter, Profile

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, WORDS = 2, 64, 96, 8, 2, 100
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": WORDS,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 32, "d_ff": 64, "num_layers": 2,
    "num_heads": 2, "d_kv": 16, "vocab_size": WORDS, "is_encoder_decoder": True, "decoder_start_token_id": 0,
}  # fmt: skip
E = 4
"""Bytes of a float32."""

TOKEN = 8
"""Bytes of a token."""

KV = HIDDEN * KV_HEADS // HEADS
LAYER = 2 * HIDDEN**2 + 2 * HIDDEN * KV + 3 * HIDDEN * INNER
MATRICES = LAYERS * LAYER + HIDDEN * WORDS
NORMS = (2 * LAYERS + 1) * HIDDEN


def cache_of(tokens):
    return LAYERS * 2 * KV * tokens * E


@pytest.fixture
def generate(opcount, write, tmp_path):
    """Return a function that counts a configuration: the profile."""

    def run(config, *options):
        write(json.dumps(config), "config.json")
        status, _, err = opcount("count", tmp_path / "config.json", *options, "-o", tmp_path / "count.json")
        assert status == 0, err
        return Profile.from_json((tmp_path / "count.json").read_text())

    return run


@pytest.mark.parametrize("way", ["--dry-run", "--real"])
def test_a_prompt_and_tokens_after_it(generate, way):
    cached, prompt, decoded = 40, 8, 3
    profile = generate(LLAMA, "--cache", cached, "--prefill", prompt, "--decode", decoded, way)
    phases = profile.by_phase()
    assert list(phases) == ["prefill", "decode"]
    attended = sum(cached + prompt + i for i in range(1, decoded + 1))
    assert phases["decode"].macs == decoded * MATRICES + LAYERS * 2 * HIDDEN * attended
    scored_once = prompt * LAYERS * LAYER + HIDDEN * WORDS
    assert phases["prefill"].macs == scored_once + LAYERS * 2 * HIDDEN * prompt * (cached + prompt)
    assert profile.coverage.complete
    held = f"{cache_of(cached + prompt + decoded) / 1000:.3f} kB of cache in the end"
    assert profile.provenance["generation"] == f"40 tokens in the cache, 8 at once, 3 one by one; {held}"


@pytest.mark.parametrize("batch", [1, 4])
def test_no_code_decodes_faster_than_weights_and_cache_are_read(generate, batch):
    cached, decoded = 100, 2
    device = Device.find("H100-SXM5")
    roofline = generate(LLAMA, "--cache", cached, "--decode", decoded, "--batch-size", batch).on(device)
    row = HIDDEN * E + TOKEN  # of the table of words, for each token
    moved = decoded * (E * (MATRICES + NORMS) + batch * row)
    moved += batch * sum(cache_of(cached + i) for i in range(1, decoded + 1))
    assert roofline.stages["decode"] == (batch * decoded, moved)
    assert roofline.least_seconds("decode") == pytest.approx(moved / device.bandwidth)
    assert roofline.seconds > roofline.least_seconds("decode")
    rates = [batch * decoded / seconds for seconds in (roofline.seconds, moved / device.bandwidth)]
    line = next(line for line in roofline.lines() if line.startswith("decode: "))
    assert [f"{rate:,.1f} tokens/s" in line for rate in rates] == [True, True]


def test_it_is_what_forwards_by_hand_count(generate):
    profile = generate(LLAMA, "--cache", 5, "--decode", 2, "--real")
    import transformers  # noqa: PLC0415  (after the shims)

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    name = next(each for each in ("cache", "past_key_values") if each in inspect.signature(model.forward).parameters)
    token = torch.ones(1, 1, dtype=torch.int64)
    with torch.no_grad():
        kept = transformers.DynamicCache()
        model(torch.ones(1, 5, dtype=torch.int64), **{name: kept}, use_cache=True)
        with OpCounter(model) as counter:
            for _ in range(2):
                model(token, **{name: kept}, use_cache=True, logits_to_keep=1)
    assert profile.total == counter.profile.total
    assert profile.by_module() == counter.profile.by_module()


def test_a_tied_table_is_read_whole_for_the_words(generate):
    tied = generate({**LLAMA, "tie_word_embeddings": True}, "--decode", 1)
    assert tied.on("L4").stages == generate(LLAMA, "--decode", 1).on("L4").stages


def test_of_experts_those_are_read_that_tokens_reach(generate):
    mixtral = {**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}
    stage = generate({**mixtral, "num_experts_per_tok": 2}, "--decode", 1).on("L4").stages["decode"]
    expert, router = 3 * HIDDEN * INNER, 8 * HIDDEN
    layer = LAYER - expert + 2 * expert + router
    weights = E * (LAYERS * layer + HIDDEN * WORDS + NORMS + HIDDEN)
    assert weights + cache_of(1) < stage.least_bytes < 1.03 * weights  # and the rows that experts read


def test_the_prompt_of_an_encoder(generate):
    both = generate(T5, "--prefill", 20, "--decode", 2)
    assert {record.path.split(".")[0] for record in both.records if record.phase == "prefill"} == {"encoder"}
    decoded = generate(T5, "--decode", 2)
    assert set(decoded.by_phase()) == {"decode"}
    assert both.by_phase()["decode"].macs > 0
    assert "encoder" not in {record.path.split(".")[0] for record in decoded.records}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cache", "4"], "--cache: expected --prefill or --decode beside it, got --cache 4 alone"),
        (["--decode", "4", "--train"], "--decode: expected it without --train"),
        (["--prefill", "4", "--seq", "8"], "--prefill: expected it without --seq"),
        (["--decode", "4", "--input", "x=1x2:int64"], "--decode: expected it without --input"),
        (["--decode", "0"], "expected a positive whole number, got '0'"),
        (["--cache", "63", "--decode", "2"], "expected at most 64 tokens"),
    ],
)
def test_what_cannot_be_generated(opcount, write, tmp_path, options, said):
    gpt2 = {"model_type": "gpt2", "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    write(json.dumps({**gpt2, "architectures": ["GPT2LMHeadModel"]}), "config.json")
    status, _, err = opcount("count", tmp_path / "config.json", *options)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_models_that_generate_no_text(opcount, write, tmp_path):
    bert = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    write(json.dumps(bert), "config.json")
    status, _, err = opcount("count", tmp_path / "config.json", "--decode", "4")
    assert (status, "got BertModel" in err) == (2, True)
    net = write("import torch\ndef build_model():\n    return torch.nn.Conv2d(3, 4, 1)\n")
    status, _, err = opcount("count", net, "--prefill", "4")
    assert (status, "--prefill" in err) == (2, True)
