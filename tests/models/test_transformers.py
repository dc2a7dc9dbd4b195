"""Models of transformers, with random weights, against their arithmetic written out; rotary angles are elementwise."""

from __future__ import annotations

import pytest
import torch

from opcount import OpCounter
from tests.shims import define_torchvision_operators

define_torchvision_operators()
transformers = pytest.importorskip("transformers")

B, L = 2, 8  # sequences, tokens in each
D, HIDDEN, HEADS, LAYERS, VOCABULARY = 32, 64, 4, 2, 100
SMALL = {
    "hidden_size": D,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.fixture(autouse=True)
def _quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def macs(model, **inputs):
    """Count one forward; every operator must be accounted for, also in a dry run, which must agree."""
    model.eval()
    counts = []
    for dry in (False, True):
        with torch.no_grad(), OpCounter(model, strict=True, dry_run=dry) as c:
            model(**inputs)
        counts.append(c.macs)
    assert counts[0] == counts[1]
    return counts[0]


def tokens(*size):
    return torch.randint(3, VOCABULARY, size)


def attend(queries, keys, width):
    """Scores and their product with the values: two products, over all heads together."""
    return 2 * queries * keys * width


def block(rows, width, hidden):
    """Queries, keys, values, output; up and down."""
    return rows * (4 * width * width + 2 * width * hidden)


def test_bert_is_its_blocks_and_a_pooler_on_the_first_token():
    model = transformers.BertModel(transformers.BertConfig(**SMALL))
    per_layer = block(L, D, HIDDEN) + attend(L, L, D)
    assert macs(model, input_ids=tokens(B, L)) == B * (LAYERS * per_layer + D * D)


def test_gpt2_multiplies_through_conv1d_and_ties_its_head():
    config = transformers.GPT2Config(
        n_embd=D, n_layer=LAYERS, n_head=HEADS, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2
    )
    per_layer = block(L, D, 4 * D) + attend(L, L, D)
    expected = B * (LAYERS * per_layer + L * D * VOCABULARY)
    assert macs(transformers.GPT2LMHeadModel(config), input_ids=tokens(B, L)) == expected


def test_llama_shares_key_heads_in_its_projections_but_not_in_its_scores():
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **SMALL))
    shared = D * 2 // HEADS  # two key heads of eight
    projections = L * (D * D + 2 * D * shared + D * D)
    gated = L * 3 * D * HIDDEN  # gate, up, down
    per_layer = projections + attend(L, L, D) + gated
    expected = B * (LAYERS * per_layer + L * D * VOCABULARY)
    assert macs(model, input_ids=tokens(B, L)) == expected


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_mixtral_computes_two_experts_for_each_token_and_not_all_four(implementation):
    config = transformers.MixtralConfig(num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, **SMALL)
    config._experts_implementation = implementation
    shared = D * 2 // HEADS
    projections = L * (D * D + 2 * D * shared + D * D)
    experts = L * (4 * D + 2 * 3 * D * HIDDEN)  # the router, then gate, up and down of two experts
    per_layer = projections + attend(L, L, D) + experts
    expected = B * (LAYERS * per_layer + L * D * VOCABULARY)
    model = transformers.MixtralForCausalLM(config).eval()
    with torch.no_grad(), OpCounter(model, strict=True) as c:
        model(input_ids=tokens(B, L))
    assert c.macs == expected


def test_mamba_projects_convolves_and_reads_its_state_out():
    config = transformers.MambaConfig(
        hidden_size=D, num_hidden_layers=LAYERS, vocab_size=VOCABULARY, state_size=4, conv_kernel=3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    inner, state, rank = 2 * D, 4, 2  # expand 2; time_step_rank = ceil(D / 16)
    convolved = inner * (L + 2) * 3  # depthwise, padded by two on both sides, then cut
    projections = L * (D * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * D)
    readout = L * inner * state  # state @ C at each step; the recurrence itself is elementwise
    expected = B * (LAYERS * (convolved + projections + readout) + L * D * VOCABULARY)
    assert macs(transformers.MambaForCausalLM(config), input_ids=tokens(B, L)) == expected


def test_t5_attends_to_itself_and_to_the_encoder():
    config = transformers.T5Config(
        d_model=D, d_kv=8, d_ff=HIDDEN, num_layers=LAYERS, num_heads=HEADS, vocab_size=VOCABULARY
    )
    targets = 6
    encoder = block(L, D, HIDDEN) + attend(L, L, D)
    decoder = block(targets, D, HIDDEN) + attend(targets, targets, D)
    cross = 2 * targets * D * D + 2 * L * D * D + attend(targets, L, D)
    expected = B * (LAYERS * (encoder + decoder + cross) + targets * D * VOCABULARY)
    model = transformers.T5ForConditionalGeneration(config)
    assert macs(model, input_ids=tokens(B, L), decoder_input_ids=tokens(B, targets)) == expected


def test_whisper_convolves_its_spectrogram_twice():
    mels, frames, targets = 16, 40, 6
    config = transformers.WhisperConfig(
        d_model=D, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_ffn_dim=HIDDEN, decoder_ffn_dim=HIDDEN, vocab_size=VOCABULARY,
        num_mel_bins=mels, max_source_positions=frames // 2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    source = frames // 2  # the second convolution's stride
    convolutions = frames * D * mels * 3 + source * D * D * 3
    encoder = block(source, D, HIDDEN) + attend(source, source, D)
    decoder = block(targets, D, HIDDEN) + attend(targets, targets, D)
    cross = 2 * targets * D * D + 2 * source * D * D + attend(targets, source, D)
    expected = B * (convolutions + LAYERS * (encoder + decoder + cross) + targets * D * VOCABULARY)
    model = transformers.WhisperForConditionalGeneration(config)
    features = torch.randn(B, mels, frames)
    assert macs(model, input_features=features, decoder_input_ids=tokens(B, targets)) == expected


def test_clip_compares_every_image_with_every_text():
    vision = {k: v for k, v in SMALL.items() if k not in {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}}
    config = transformers.CLIPConfig(
        text_config=SMALL, vision_config={**vision, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    patches = (32 // 8) ** 2
    text = LAYERS * (block(L, D, HIDDEN) + attend(L, L, D)) + D * 16
    image = LAYERS * (block(patches + 1, D, HIDDEN) + attend(patches + 1, patches + 1, D)) + D * 16
    embedding = patches * D * 3 * 8 * 8
    texts, images = 2, 3
    expected = texts * text + images * (embedding + image) + texts * images * 16
    model = transformers.CLIPModel(config)
    assert macs(model, input_ids=tokens(texts, L), pixel_values=torch.randn(images, 3, 32, 32)) == expected


def test_generation_costs_a_prefill_and_then_one_token_a_step():
    config = transformers.LlamaConfig(num_key_value_heads=HEADS, **{**SMALL, "eos_token_id": None})
    model = transformers.LlamaForCausalLM(config).eval()
    prompt, new = 5, 4
    counted = []

    def step(_module, _args, _kwargs, _out):
        counted.append(c.macs)

    handle = model.register_forward_hook(step, with_kwargs=True)
    with OpCounter(model, strict=True) as c:
        model.generate(tokens(1, prompt), max_new_tokens=new, do_sample=False, use_cache=True)
    handle.remove()
    per_token = LAYERS * (4 * D * D + 3 * D * HIDDEN)

    def forward(length, keys):  # the head reads the last token only
        return length * per_token + LAYERS * attend(length, keys, D) + D * VOCABULARY

    prefill = forward(prompt, prompt)
    steps = [forward(1, prompt + i) for i in range(1, new)]
    assert [b - a for a, b in zip([0, *counted], counted, strict=False)] == [prefill, *steps]
    assert c.macs == prefill + sum(steps)


@pytest.mark.parametrize(
    ("model", "config", "expected", "params"),
    [
        # 12 x (128 x (4 x 768^2 + 2 x 768 x 3072) + 2 x 128^2 x 768) + 768^2
        ("BertModel", "BertConfig", 11_174_215_680, 109_482_240),
        # 12 x (128 x 12 x 768^2 + 2 x 128^2 x 768) + 128 x 768 x 50257
        ("GPT2LMHeadModel", "GPT2Config", 16_114_089_984, 124_439_808),
    ],
)
def test_the_published_numbers_of_full_size_models_at_128_tokens(model, config, expected, params):
    with torch.device("meta"):
        net = getattr(transformers, model)(getattr(transformers, config)()).eval()
    with torch.no_grad(), OpCounter(net, dry_run=True, strict=True) as c:
        net(input_ids=torch.zeros(1, 128, dtype=torch.long))
    assert (c.macs, c.params) == (expected, params)
