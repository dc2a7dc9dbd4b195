"""More of transformers, and diffusers: parts of models, sound, what needs values, what nobody can guess."""

import json

import pytest

from tests.cli.test_count import SMALL, by_pytorch, counted


def config(folder, **settings):
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_part_of_a_model_is_built_though_no_auto_class_knows_it(opcount, tmp_path):
    folder = config(tmp_path, model_type="siglip_text_model", **SMALL)
    profile = counted(opcount, f"transformers/{folder}", "--seq", 16)
    assert profile.modules[""].type == "SiglipTextModel"
    layer = 16 * (4 * 32**2 + 2 * 32 * 64) + 2 * 16**2 * 32
    assert profile.macs == 2 * layer + 32**2  # and a head of the last token


@pytest.mark.parametrize(("setting", "value"), [("n_layer", -1), ("n_head", 0), ("num_hidden_layers", 0)])
def test_a_model_of_no_layers_or_heads_is_refused(opcount, setting, value):
    status, out, err = opcount("count", "transformers/gpt2", "--kwargs", f"{setting}={value}")
    assert (status, out) == (2, "")
    assert f"expected {setting} to be at least 1, got {value} in --kwargs" in err


def test_an_architecture_that_transformers_does_not_have_is_no_other_one(opcount, tmp_path):
    folder = config(tmp_path, model_type="llama", architectures=["LlamaForMyOwnThing"], **SMALL)
    status, out, err = opcount("count", f"transformers/{folder}")
    assert (status, out) == (2, "")
    assert "got ['LlamaForMyOwnThing']. Remove them from the file to count the plain model" in err


@pytest.mark.parametrize(
    ("kind", "shape", "settings"),
    [
        ("parakeet_encoder", "1, 512, 80", {"num_mel_bins": 80, "subsampling_conv_channels": 8}),
        ("wav2vec2-bert", "1, 512, 24", {"feature_projection_input_dim": 24, "num_adapter_layers": 1}),
    ],
)
def test_sound_lies_as_the_model_reads_it(opcount, tmp_path, kind, shape, settings):
    folder = config(tmp_path, model_type=kind, **SMALL, **settings)
    macs = by_pytorch(f"transformers/{folder}")
    assert counted(opcount, f"transformers/{folder}").macs == macs
    bins = int(shape.split(", ")[-1])
    explicit = counted(opcount, f"transformers/{folder}", "--input", f"input_features=1x512x{bins}")
    assert explicit.macs == macs


def test_a_codec_hears_channels(opcount, tmp_path):
    folder = config(tmp_path, model_type="dac", encoder_hidden_size=8, decoder_hidden_size=64, codebook_size=32)
    assert counted(opcount, f"transformers/{folder}").coverage.complete


def test_a_language_model_that_looks_for_padding_runs_dry(opcount, tmp_path):
    folder = config(tmp_path, model_type="roformer", embedding_size=32, **SMALL)
    profile = counted(opcount, f"transformers/{folder}", "--dry-run", "--seq", 8)
    assert profile.provenance["run"] == "dry"
    assert profile.macs == 2 * (8 * (4 * 32**2 + 2 * 32 * 64) + 2 * 8**2 * 32)


def test_a_model_that_needs_values_is_computed_and_that_is_said(process, tmp_path):
    folder = config(tmp_path, model_type="vilt", image_size=512, patch_size=64, **SMALL)
    done = process("count", f"transformers/{folder}", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["run"] == "real"
    assert "needs the values of its inputs" in done.stderr
    assert "Computing instead." in done.stderr
    done = process("count", f"transformers/{folder}", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")


def test_what_nobody_can_guess_is_asked_for(opcount, tmp_path):
    folder = config(tmp_path, model_type="qwen2_vl_vision", depth=1, embed_dim=32, num_heads=4, hidden_size=32)
    status, _, err = opcount("count", f"transformers/{folder}")
    assert status == 2
    assert "is called with hidden_states, grid_thw, and the shape of hidden_states is not known here" in err


def test_a_part_that_is_no_model_is_refused(opcount):
    status, _, err = opcount("count", "transformers/sam_mask_decoder")
    assert status == 2
    assert "transformers has no model for sam_mask_decoder alone" in err


DIT = {
    "_class_name": "DiTTransformer2DModel", "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4,
    "out_channels": 8, "num_layers": 28, "sample_size": 32, "patch_size": 2, "num_embeds_ada_norm": 1000,
}  # fmt: skip


@pytest.fixture
def diffusers():
    try:
        return pytest.importorskip("diffusers")
    except RuntimeError as error:
        pytest.skip(f"diffusers does not import: {error}")


def test_a_diffusion_transformer_from_its_config(opcount, diffusers, tmp_path):
    profile = counted(opcount, f"diffusers/{config(tmp_path, **DIT)}")
    h, tokens, layers = 16 * 72, (32 // 2) ** 2, 28
    block = tokens * 12 * h * h + 2 * tokens**2 * h  # attention and an inner layer of 4 h
    condition = 6 * h * h + 256 * h + h * h  # scales and shifts, from the time's 256 waves: once an image
    ends = tokens * h * (4 * 2 * 2) + tokens * h * (8 * 2 * 2) + 2 * h * h
    assert profile.macs == layers * (block + condition) + ends + 256 * h + h * h
    assert profile.macs == pytest.approx(118.64e9, rel=1e-3)  # DiT-XL/2, as its authors publish it
    assert profile.coverage.complete


def test_a_denoiser_with_text_by_its_class(opcount, diffusers):
    small = ["block_out_channels=(32, 64)", "cross_attention_dim=16", "attention_head_dim=8", "sample_size=8"]
    blocks = [
        "down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D')",
        "up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D')",
    ]
    options = ["--kwargs", *small, *blocks]
    dry = counted(opcount, "diffusers/UNet2DConditionModel", *options, "--seq", 5)
    assert dry.macs == counted(opcount, "diffusers/UNet2DConditionModel", *options, "--seq", 5, "--real").macs
    assert dry.macs < counted(opcount, "diffusers/UNet2DConditionModel", *options, "--seq", 6).macs


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("DiTTransformer2DMode", "diffusers knows no model 'DiTTransformer2DMode'. Did you mean DiTTransformer2DModel"),
        ("stabilityai/sd-turbo", "Nothing is downloaded: save the file first."),
        ("FluxTransformer2DModel", "Say what it takes with --shape or --input"),
    ],
)
def test_a_denoiser_that_cannot_be_counted_says_why(opcount, diffusers, target, message):
    small = ["--kwargs", "num_layers=1", "num_single_layers=1"] if target.startswith("Flux") else []
    status, out, err = opcount("count", f"diffusers/{target}", *small)
    assert (status, out) == (2, "")
    assert message in err
