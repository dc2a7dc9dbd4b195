"""Inputs of a model: options that say it together, and options that would say nothing."""

import json

import pytest

from tests.cli.test_count import SMALL, counted

CONV = "from torch import nn\ndef build():\n    return nn.Conv2d(3, 8, 3)\n"
TWO = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.b = nn.Linear(5, 2)

    def forward(self, image, words=None):
        return self.a(image), None if words is None else self.b(words)
"""


def conv(side, batch=1):
    return batch * 8 * 3 * 9 * (side - 2) ** 2


def test_a_file_may_say_inputs_beside_what_builds_its_model(opcount, write):
    text = (
        "from torch import nn, zeros\ndef inputs():\n    return zeros(2, 3)\ndef build():\n    return nn.Linear(3, 4)\n"
    )
    assert counted(opcount, write(text)).macs == 2 * 3 * 4
    hinted = text.replace("def inputs():", "def inputs() -> nn.Module:")
    assert counted(opcount, write(hinted)).macs == 2 * 3 * 4
    status, _, err = opcount("count", f"{write(text)}:inputs")
    assert status == 2
    assert "expected" in err
    assert "to build an nn.Module" in err


@pytest.mark.parametrize(
    ("options", "macs"),
    [
        (["--input", "1x3x32x32"], conv(32)),
        (["--input", "1x3x32x32", "--input", "7x5"], conv(32) + 7 * 5 * 2),
        (["--input", "words=7x5", "--shape", "3", "64", "64"], conv(64) + 7 * 5 * 2),
        (["--input", "words=7x5", "--shape", "3", "64", "64", "--batch-size", "4"], conv(64, 4) + 7 * 5 * 2),
        (["--input", "words=7x5", "--batch-size", "2"], conv(224, 2) + 7 * 5 * 2),
    ],
)
def test_sizes_fill_what_input_leaves_out(opcount, write, options, macs):
    assert counted(opcount, write(TWO), *options).macs == macs


@pytest.mark.parametrize("option", [["--shape", "3", "64", "64"], ["--batch-size", "1"], ["--seq", "7"]])
@pytest.mark.parametrize("given", [["1x3x32x32"], ["input=1x3x32x32"]])
def test_sizes_beside_inputs_that_leave_nothing_out_are_refused(opcount, write, option, given):
    status, out, err = opcount("count", write(CONV), *option, "--input", *given)
    assert (status, out) == (2, "")
    assert f"expected no {option[0]} beside --input" in err


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("timm/resnet18", ["--seq", "5"]),
        ("torchvision/resnet18", ["--cfg-options", "a=1"]),
        ("transformers/gpt2", ["--shape", "3", "4"]),
        ("transformers/gpt2", ["--input", "input_ids=1x9:int64", "--seq", "5"]),
        ("transformers/vit", ["--seq", "5"]),
        ("torch.nn:Identity", ["--seq", "5"]),
    ],
)
def test_an_option_that_nothing_depends_on_is_refused(opcount, target, options):
    status, out, err = opcount("count", target, *options)
    assert (status, out) == (2, "")
    assert "nothing of the model or of what it is called with depends on it" in err


def test_an_option_that_a_config_has_no_use_for_is_refused(process):
    done = process("count", "resnet18_8xb32_in1k", "--input", "1x3x224x224")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("opcount: load: expected no --input for 'resnet18_8xb32_in1k'")


def test_an_object_in_a_file_takes_no_arguments(opcount, write):
    path = write("from torch import nn\nnet = nn.Linear(3, 4)\ninput_shape = (3,)\n")
    assert "expected no --kwargs" in opcount("count", path, "--kwargs", "a=1")[2]


def test_an_optimizer_without_training_is_refused(opcount, write):
    status, out, err = opcount("count", write(CONV), "--optimizer", "SGD")
    assert (status, out) == (2, "")
    assert "expected it beside --train" in err


def test_an_input_is_said_once(opcount, write):
    status, _, err = opcount("count", write(TWO), "--input", "words=1x5", "--input", "words=2x5")
    assert status == 2
    assert "expected one --input for words" in err


def test_text_beside_other_inputs_of_an_encoder_and_decoder(opcount, tmp_path):
    settings = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "vocab_size": 100}))
    target = f"transformers/{tmp_path}"
    whole = counted(opcount, target, "--input", "input_ids=1x9:int64", "--input", "decoder_input_ids=1x7:int64")
    assert counted(opcount, target, "--input", "input_ids=1x9:int64", "--seq", 7).macs == whole.macs


LAYERS, HIDDEN, WORDS = 2, 32, 100
GPT = {"model_type": "gpt2", "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "vocab_size": WORDS, "n_positions": 64}


def gpt(tokens, *, head):
    return LAYERS * (tokens * 12 * HIDDEN**2 + 2 * tokens**2 * HIDDEN) + head * tokens * HIDDEN * WORDS


@pytest.fixture
def folder(tmp_path):
    def make(**settings):
        (tmp_path / "config.json").write_text(json.dumps({**GPT, **settings}))
        return f"transformers/{tmp_path}"

    return make


@pytest.mark.parametrize(
    ("settings", "suffix", "head"),
    [
        ({}, "", True),
        ({"architectures": ["GPT2LMHeadModel"]}, "", True),
        ({"architectures": "GPT2LMHeadModel"}, "", True),
        ({"architectures": ["GPT2Model"]}, "", False),
        ({"architectures": ["GPT2Model"]}, ":GPT2LMHeadModel", True),
        ({}, ":GPT2Model", False),
        ({"architectures": None}, "", True),
    ],
)
def test_the_class_is_the_users_or_the_configurations_or_one_with_a_head(opcount, folder, settings, suffix, head):
    target = f"{folder(**settings)}{suffix}"
    assert counted(opcount, target, "--seq", 16).macs == gpt(16, head=head)
    err = opcount("count", target, "--seq", 16)[2]
    assert ("names no architecture: GPT2LMHeadModel is counted" in err) == (
        not settings.get("architectures") and not suffix
    )


def test_training_trains_the_head_too(opcount, folder):
    phases = counted(opcount, folder(), "--seq", 16, "--train", "--kwargs", "attn_pdrop=0").by_phase()
    assert phases["forward"].macs == gpt(16, head=True)


def test_an_encoder_without_a_named_head_is_counted_plain_and_that_is_said(opcount):
    options = [f"{key}={value}" for key, value in SMALL.items()]
    status, _, err = opcount("count", "transformers/bert", "--kwargs", *options)
    assert status == 0
    assert "transformers/bert names no architecture: BertModel is counted." in err


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (":GPT2", "expected a class of transformers, got 'GPT2'. Did you mean GPT2Model"),
        (":BertModel", "expected a class for the GPT2Config of"),
        (":GPT2Config", "expected a class of transformers, got 'GPT2Config'"),
    ],
)
def test_a_class_that_does_not_fit_is_refused(opcount, folder, suffix, message):
    status, out, err = opcount("count", f"{folder()}{suffix}")
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("options", [["--seq", "65"], ["--input", "input_ids=1x65:int64"]])
def test_a_text_longer_than_the_positions_is_refused_with_their_number(opcount, folder, options):
    status, out, err = opcount("count", folder(), *options)
    assert (status, out) == (2, "")
    assert "expected at most 64 tokens, the positions of GPT2LMHeadModel, got 65 in input_ids" in err
    assert opcount("count", folder(), "--seq", "64")[0] == 0


def test_positions_that_are_computed_have_no_limit(opcount):
    options = [f"{key}={value}" for key, value in SMALL.items()] + ["max_position_embeddings=8"]
    assert opcount("count", "transformers/llama", "--seq", "16", "--kwargs", *options)[0] == 0


@pytest.mark.parametrize(("words", "status"), [(0, 2), (1, 0)])
def test_a_vocabulary_has_a_word(opcount, folder, words, status):
    assert opcount("count", folder(vocab_size=words), "--real")[0] == status
    assert opcount("count", folder(vocab_size=words), "--dry-run")[0] == status


MALFORMED = {
    "a list": "[1]",
    "nothing": "null",
    "a number": "7",
    "a string": '"gpt2"',
    "no JSON": "{model_type: gpt2}",
    "an empty file": "",
    "deep": "[" * 100_000,
    "no type": "{}",
    "a type of numbers": '{"model_type": 7}',
    "a type of lists": '{"model_type": ["gpt2"]}',
    "an unknown type": '{"model_type": "gpt7"}',
    "no layers": '{"model_type": "gpt2", "n_layer": null}',
    "layers of text": '{"model_type": "gpt2", "n_layer": "two"}',
    "a fraction of heads": '{"model_type": "gpt2", "n_head": 0.5}',
    "no heads": '{"model_type": "gpt2", "n_head": 0}',
    "less than nothing": '{"model_type": "gpt2", "n_embd": -32, "n_layer": 1, "n_head": 4}',
    "more than there is": '{"model_type": "gpt2", "n_embd": 1e300, "n_layer": 1}',
    "too many digits": '{"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 1%s}' % ("0" * 30),
    "classes of numbers": '{"model_type": "gpt2", "architectures": [7]}',
    "a class of numbers": '{"model_type": "gpt2", "architectures": 7}',
    "classes of a dict": '{"model_type": "gpt2", "architectures": {"a": 1}}',
    "parts of text": '{"model_type": "clip", "text_config": "big", "vision_config": 3}',
    "an image of text": '{"model_type": "vit", "image_size": "big"}',
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_a_malformed_configuration_is_a_sentence(opcount, tmp_path, library, kind):
    text = MALFORMED[kind]
    if library == "diffusers":
        text = text.replace("model_type", "_class_name").replace('"gpt2"', '"DiTTransformer2DModel"')
    (tmp_path / "config.json").write_text(text)
    status, out, err = opcount("count", f"{library}/{tmp_path}")
    if library == "diffusers" and "gpt2" in MALFORMED[kind]:  # settings that diffusers does not have, and ignores
        return
    assert (status, out) == (2, "")
    assert [line for line in err.splitlines() if not line.endswith(" ...")][-1].startswith("opcount: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_a_configuration_that_is_no_text_or_a_folder_is_a_sentence(opcount, tmp_path, library):
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe\x00{")
    assert opcount("count", f"{library}/{tmp_path}")[0] == 2
    file.unlink()
    file.mkdir()
    assert opcount("count", f"{library}/{tmp_path}")[0] == 2
