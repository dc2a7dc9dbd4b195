"""The callback of transformers, in real trainers on the CPU: utilization against hand arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount.errors import DeviceError
from tests.integrations.toy import BATCH_FLOPS, NOW, ROWS, WIDTH
from tests.meter.loops import DEVICE
from tests.shims import install

install()
transformers = pytest.importorskip("transformers", reason="an extra", exc_type=ImportError)
pytest.importorskip("accelerate", reason="an extra")

from opcount.integrations.transformers import MeterCallback  # noqa: E402  (where it is installed)

pytestmark = pytest.mark.filterwarnings("ignore")


class Toy(nn.Module):
    def __init__(self, fail_at=None):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.fail_at, self.batches = fail_at, 0

    main_input_name = "x"

    def forward(self, x, labels=None):
        if self.training:
            self.batches += 1
            if self.batches == self.fail_at:
                raise ValueError("in a step")
            NOW.time += 0.5
        else:
            NOW.time += 50
        return {"loss": self.layer(x).mean()}


class Data(torch.utils.data.Dataset):
    def __init__(self, size=ROWS * 4 * 21):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return {"x": torch.ones(WIDTH)}


class Kept(transformers.TrainerCallback):
    """An integration: it stands before the user's callbacks."""

    def __init__(self):
        self.found = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if any(name.startswith("meter_") for name in logs):
            self.found.append((state.global_step, dict(logs)))


def trainer_of(model, callback, tmp_path, **options):
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": ROWS,
        "max_steps": 21,
        "logging_steps": 10,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }
    args = transformers.TrainingArguments(**{**settings, **options})
    kept = Kept()
    trainer = transformers.Trainer(
        model=model, args=args, train_dataset=Data(), eval_dataset=Data(16), callbacks=[kept, callback]
    )
    return trainer, kept.found


@pytest.mark.parametrize("accumulated", [1, 4])
def test_utilization_is_logged_as_it_is_by_hand(accumulated, tmp_path):
    trainer, found = trainer_of(
        Toy(),
        MeterCallback(device=DEVICE, every=1000),
        tmp_path,
        gradient_accumulation_steps=accumulated,
        include_num_input_tokens_seen="all",
    )
    trainer.train()
    assert [step for step, _ in found] == [10, 20]
    for _, metrics in found:
        assert metrics["meter_mfu"] == metrics["meter_hfu"] == pytest.approx(BATCH_FLOPS / 0.5 / 1e9)
        assert metrics["meter_steps_per_second"] == pytest.approx(1 / (accumulated * 0.5))
        tokens = ROWS * WIDTH  # the trainer takes the elements of the main input for tokens
        assert metrics["meter_tokens_per_second"] == pytest.approx(tokens / 0.5)
    history = trainer.state.log_history
    assert [entry["step"] for entry in history if "loss" in entry] == [10, 20]
    assert [entry["meter_mfu"] for entry in history if "meter_mfu" in entry] == [m["meter_mfu"] for _, m in found]


def test_an_evaluation_between_steps_is_no_part_of_them(tmp_path):
    trainer, found = trainer_of(
        Toy(), MeterCallback(device=DEVICE, every=5), tmp_path, eval_strategy="steps", eval_steps=2
    )
    trainer.train()
    assert len(found) == 2
    for _, metrics in found:
        assert metrics["meter_flops_per_second"] / metrics["meter_steps_per_second"] == pytest.approx(BATCH_FLOPS)
        assert metrics["meter_steps_per_second"] == pytest.approx(2)
        assert "meter_tokens_per_second" not in metrics


@pytest.mark.parametrize("fail_at", [1, 2, 7])
def test_an_exception_in_a_step_leaves_nothing_behind_and_training_may_begin_again(fail_at, tmp_path):
    trainer, found = trainer_of(Toy(fail_at=fail_at), MeterCallback(device=DEVICE, every=5), tmp_path)
    with pytest.raises(ValueError, match="in a step"):
        trainer.train()
    assert torch._C._len_torch_dispatch_stack() == 0
    assert "training_step" not in vars(trainer)
    trainer.train()
    assert [step for step, _ in found] == [10, 20]
    assert "training_step" not in vars(trainer)


def test_a_training_step_of_the_users_own_stays(tmp_path):
    trainer, _ = trainer_of(Toy(), MeterCallback(device=DEVICE, every=5), tmp_path)
    before = trainer.training_step = lambda *args: type(trainer).training_step(trainer, *args)
    trainer.train()
    assert trainer.training_step is before


def test_an_unknown_device_is_refused_when_training_begins(tmp_path):
    trainer, _ = trainer_of(Toy(), MeterCallback(), tmp_path)
    with pytest.raises(DeviceError, match="expected a device with known peaks"):
        trainer.train()


def test_training_is_what_it_is_without_the_callback(tmp_path):
    results = []
    for callback in (MeterCallback(device=DEVICE, every=3), transformers.TrainerCallback()):
        transformers.set_seed(0)
        model = Toy()
        trainer_of(model, callback, tmp_path)[0].train()
        results.append(model.layer.weight.detach().clone())
    assert torch.equal(*results)
