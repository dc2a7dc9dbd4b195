"""``opcount count``: every kind of target, options, formats, and what is refused."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from opcount import Profile
from opcount.cli.formats import FORMATS
from opcount.loaders import load
from opcount.loaders.request import Request
from opcount.loaders.step import forward
from opcount.reporter.communication import NOTHING_SENT

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, width), nn.ReLU())
        self.head = nn.Linear(width, 2)

    def forward(self, x, mask=None):
        print("noise")
        x = self.head(self.body(x))
        return x if mask is None else x.masked_fill(mask, 0)

input_shape = (16,)
"""


def by_pytorch(target):
    """Return the MACs of a model by PyTorch's own counter, attention as the products that it is made of."""
    loaded = load(str(target), Request())
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        forward(loaded)
    return mode.get_total_flops() // 2


def counted(opcount, *arguments):
    status, out, err = opcount("count", *arguments, "--format", "json")
    assert status == 0, err
    return Profile.from_json(out)


def test_a_file(opcount, write):
    assert counted(opcount, write(NET)).macs == 16 * 8 + 8 * 2


def test_a_file_with_arguments_for_its_factory(opcount, write):
    assert counted(opcount, f"{write(NET)}:Net", "--kwargs", "width=4", "--batch-size", 3).macs == 3 * (16 * 4 + 4 * 2)


def test_something_to_import(opcount, write, monkeypatch):
    monkeypatch.syspath_prepend(write(NET, "importable_net.py").parent)
    profile = counted(opcount, "importable_net:Net", "--input", "x=5x16", "--input", "mask=5x2:bool")
    assert profile.macs == 5 * (16 * 8 + 8 * 2)


@pytest.mark.parametrize(
    ("target", "macs", "params"),
    [
        ("torchvision/resnet18", 1_814_073_344, 11_689_512),
        ("torchvision/r3d_18", 40_696_553_472, 33_371_472),
        ("timm/vit_base_patch16_224", 17_563_828_224, 86_567_656),
        ("timm/resnet50", 4_089_184_256, 25_557_032),
    ],
)
def test_vision_models_by_name(opcount, target, macs, params):
    profile = counted(opcount, target)
    assert (profile.macs, profile.params) == (macs, params)
    assert profile.provenance["run"] == "dry"


def test_an_image_size_of_ones_own(opcount):
    small, large = (counted(opcount, "timm/resnet18", "--shape", size).macs for size in (64, 128))
    assert abs(large / small - 4) < 0.05  # the classifier does not grow


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
ARCHITECTURES = {
    "decoder": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 2, **SMALL},
    "decoder of 2019": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4},
    "encoder": {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SMALL},
    "encoder-decoder": {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 32, "d_kv": 8, "d_ff": 64,
        "num_layers": 2, "num_heads": 4, "vocab_size": 100,
    },
    "mixture of experts": {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_key_value_heads": 2,
        "num_local_experts": 4, **SMALL,
    },
    "state space": {
        "model_type": "mamba2", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "num_heads": 8,
        "head_dim": 8, "n_groups": 2, "state_size": 16,
    },
    "vision": {"model_type": "vit", "image_size": 32, "patch_size": 8, **SMALL},
    "image and text": {
        "model_type": "clip", "text_config": SMALL, "vision_config": {"image_size": 32, "patch_size": 8, **SMALL},
    },
    "speech": {
        "model_type": "whisper", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 100,
        "max_source_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "waveform": {
        "model_type": "wav2vec2", "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 8, **SMALL,
    },
    "segmentation": {"model_type": "segformer", "image_size": 64},
}  # fmt: skip


UNSEEN = {"mixture of experts": 2 * 128 * 2 * 3 * 32 * 64}
"""MACs that PyTorch's counter does not see: grouped products of layers, tokens, experts for each, three matrices."""


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_of_transformers_from_its_config(opcount, tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps(ARCHITECTURES[kind]))
    target = f"transformers/{tmp_path}"
    dry, real = counted(opcount, target), counted(opcount, f"{target}/config.json", "--real")
    assert dry.macs == real.macs == by_pytorch(target) + UNSEEN.get(kind, 0)
    assert dry.params == real.params
    assert dry.coverage.complete


def test_a_language_model_grows_with_its_sequence(opcount):
    layers, h, i, kv, v = 2, 32, 64, 2 * 8, 100
    options = [f"{key}={value}" for key, value in SMALL.items()] + ["num_key_value_heads=2"]
    for s in (8, 64):
        profile = counted(opcount, "transformers/llama", "--seq", s, "--kwargs", *options)
        assert profile.macs == layers * (s * (2 * h * h + 2 * h * kv + 3 * h * i) + 2 * s * s * h) + s * h * v
        assert profile.params == 2 * v * h + h + layers * (2 * h * h + 2 * h * kv + 3 * h * i + 2 * h)


def test_the_largest_llama_needs_no_weights(opcount):
    config = {
        "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
        "num_key_value_heads": 8, "vocab_size": 128256,
    }  # fmt: skip
    n, s, h, i, kv, v = 126, 2048, 16384, 53248, 8 * 128, 128256
    pairs = [f"{key}={value}" for key, value in config.items()]
    forward = n * (s * (2 * h * h + 2 * h * kv + 3 * h * i) + 2 * s * s * h) + s * h * v
    profile = counted(opcount, "transformers/llama", "--seq", s, "--kwargs", *pairs)
    assert profile.macs == forward


def test_training_has_its_phases(opcount, write):
    phases = counted(opcount, write(NET), "--train").by_phase()
    assert list(phases) == ["forward", "backward", "optimizer"]
    assert phases["backward"].macs == 16 * 8 + 2 * 8 * 2  # nobody asks for the gradient of the input
    assert phases["optimizer"].arith == 154 * 14 + 4  # AdamW, and the number of the step of each parameter
    assert "optimizer" not in counted(opcount, write(NET), "--train", "--optimizer", "none").by_phase()


def test_an_optimizer_that_runs_forward_itself_runs_it_once(opcount, write):
    phases = counted(opcount, write(NET), "--train", "--optimizer", "LBFGS", "--real").by_phase()
    plain = counted(opcount, write(NET), "--train", "--optimizer", "none").by_phase()
    assert {name: total.macs for name, total in phases.items() if name != "optimizer"} == {
        name: total.macs for name, total in plain.items()
    }
    assert phases["optimizer"].macs == 154  # the gradient times the direction


BAG = """
from torch import nn, zeros, long
net = nn.EmbeddingBag(5, 3, sparse=True, mode="sum")
def inputs(): return (zeros(2, 4, dtype=long),)
"""


def test_an_optimizer_of_sparse_gradients_trains_what_has_such(opcount, write):
    assert "optimizer" in counted(opcount, f"{write(BAG)}:net", "--train", "--optimizer", "SparseAdam").by_phase()


@pytest.mark.parametrize(("optimizer", "reason"), [("SparseAdam", "dense gradients"), ("Muon", "only supports 2D")])
def test_an_optimizer_that_does_not_train_the_model_is_refused_by_name(opcount, write, optimizer, reason):
    if not hasattr(torch.optim, optimizer):
        pytest.skip(f"PyTorch {torch.__version__} has no {optimizer}")
    status, out, err = opcount("count", write(NET), "--train", "--optimizer", optimizer, "--real")
    assert (status, out) == (2, "")
    assert f"trains this model, got {optimizer}: " in err
    assert reason in err


def test_a_dtype(opcount, write):
    assert list(counted(opcount, write(NET), "--dtype", "bfloat16").by_dtype()) == ["bfloat16"]


def test_what_needs_values_is_computed_and_that_is_said(opcount, write):
    body = "class Net(nn.Linear):\n    def forward(self, x): y = super().forward(x); return y[y > 2] @ y[y > 2]"
    net = f"from torch import nn\n{body}\nmodel, input_shape = Net(4, 70_000), (4,)"
    status, _, err = opcount("count", write(net))
    assert status == 0
    assert "needs the values" in err
    assert "Computing instead." in err
    status, _, err = opcount("count", write(net), "--dry-run")
    assert status == 2
    assert "needs the values" in err


@pytest.mark.parametrize("name", FORMATS)
def test_formats(opcount, write, name):
    status, out, err = opcount("count", write(NET), "--format", name)
    assert (status, out[-1:]) == (0, "\n")
    assert "noise" not in out
    assert "noise" in err
    if name == "communication":
        assert out == f"{NOTHING_SENT}\n"
    else:
        assert "head" in out or "144" in out  # a module, or the total


def test_the_name_of_the_output_tells_the_format(opcount, write, tmp_path):
    status, out, _ = opcount("count", write(NET), "-o", tmp_path / "net.json")
    assert (status, out.split(" = ")[0]) == (0, "total: 144 MAC")
    assert Profile.from_json((tmp_path / "net.json").read_text()).macs == 144


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timm/resnet5O"], "timm knows no model 'resnet5O'. Did you mean resnet50"),
        (["torchvision/resnt18"], "Did you mean resnet18"),
        (["transformers/bertt"], "Did you mean bert"),
        (["transformers/meta-llama/Llama-3.1-8B"], "Nothing is downloaded: save the file first."),
        (["nowhere.py"], "which does not exist"),
        (["no.such.package:Net"], "no.such.package cannot be imported"),
        (["torch.nn:Lineer"], "expected a name in torch.nn, got 'Lineer'"),
        (
            ["torch.nn:Linear", "--kwargs", "in_features=1"],
            "expected a factory without required arguments, got Linear(out_features) in 'torch.nn'",
        ),
        (["torch.nn:Identity", "--input", "x=1xtwo"], "expected an input such as x=1x3x224x224:float32"),
        (["torch.nn:Identity", "--input", "x=1:float33"], "expected a dtype such as float32"),
        (["torch.nn:Identity", "--kwargs", "a b"], "expected key=value, got 'a b'"),
        (["torch.nn:Identity", "--optimizer", "adamm"], "expected none or a class of torch.optim"),
        (["timm/resnet18", "--shape", "1", "64", "64"], "in conv1 (Conv2d)"),
    ],
)
def test_what_cannot_be_counted_says_why(opcount, arguments, message):
    status, out, err = opcount("count", *arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["count"], ["count", "x.py", "--shape", "0"], ["count", "x.py", "--shape", "3x"],
     ["count", "x.py", "--format", "pdf"], ["count", "x.py", "--device", "tpu"],
     ["diff", "a.json"], ["diff", "a", "b", "--fail", "macs"], ["frobnicate"]],
)  # fmt: skip
def test_bad_usage_exits_with_2(opcount, arguments):
    status, out, err = opcount(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage:")


def test_an_output_that_cannot_be_written(opcount, write, tmp_path):
    status, _, err = opcount("count", write(NET), "-o", tmp_path / "no" / "net.json")
    assert status == 2
    assert "cannot be written: No such file or directory" in err


def test_an_output_is_whole_or_as_it_was(opcount, write, tmp_path, monkeypatch):
    target = write("before", "out.json")
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    status, _, err = opcount("count", write(NET), "-o", target)
    assert status == 2
    assert "cannot be written" in err
    assert target.read_text() == "before"
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["net.py", "out.json"]


def _fail(*_):
    raise OSError(28, "No space left on device")


def test_something_to_import_is_called_with_the_inputs_that_its_module_states(opcount, write, monkeypatch):
    monkeypatch.syspath_prepend(write(NET, "stated_net.py").parent)
    assert counted(opcount, "stated_net:Net").macs == 16 * 8 + 8 * 2
    assert counted(opcount, "stated_net:Net", "--batch-size", 5).macs == 5 * (16 * 8 + 8 * 2)
