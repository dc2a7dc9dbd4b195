"""The callback of Lightning, in real trainers on the CPU: utilization against hand arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import Device
from opcount.errors import DeviceError
from tests.integrations.toy import BATCH_FLOPS, NOW, ROWS, WIDTH
from tests.meter.loops import DEVICE
from tests.shims import install

install()
lightning = pytest.importorskip("lightning.pytorch", reason="an extra", exc_type=ImportError)
from lightning.pytorch.loggers.logger import Logger  # noqa: E402  (where it is installed)

from opcount.integrations.lightning import MeterCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Toy(lightning.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.fail_at, self.batches = fail_at, 0

    def training_step(self, batch, _index):
        self.batches += 1
        if self.batches == self.fail_at:
            raise ValueError("in a step")
        NOW.time += 0.5
        return self.layer(batch).sum()

    def validation_step(self, batch, _index):
        NOW.time += 50
        self.layer(batch.repeat(50, 1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Kept(Logger):
    """A logger that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.found = []

    name = "kept"
    version = 0

    def log_metrics(self, metrics, step=None):
        if any(name.startswith("meter/") for name in metrics):
            self.found.append((step, metrics))

    def log_hyperparams(self, *_args, **_kwargs):
        pass


def fit(model, callback, *, steps=21, **options):
    logger = Kept()
    settings = {
        "accelerator": "cpu",
        "max_steps": steps,
        "log_every_n_steps": 10,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    trainer = lightning.Trainer(logger=logger, callbacks=[callback], **{**settings, **options})
    data, held_out = (torch.utils.data.DataLoader(torch.ones(n * ROWS, WIDTH), batch_size=ROWS) for n in (200, 2))
    trainer.fit(model, data, held_out)
    return logger.found, trainer


@pytest.mark.parametrize("accumulated", [1, 4])
def test_utilization_is_logged_as_it_is_by_hand(accumulated):
    callback = MeterCallback(device=DEVICE, every=1000, tokens=len)
    found, _ = fit(Toy(), callback, accumulate_grad_batches=accumulated)
    assert [step for step, _ in found] == [9, 19]
    for _, metrics in found:
        assert metrics["meter/mfu"] == metrics["meter/hfu"] == pytest.approx(BATCH_FLOPS / 0.5 / 1e9)
        assert metrics["meter/tokens_per_second"] == pytest.approx(ROWS / 0.5)
        assert metrics["meter/steps_per_second"] == pytest.approx(1 / (accumulated * 0.5))


def test_a_validation_between_batches_is_no_part_of_a_step():
    found, trainer = fit(Toy(), MeterCallback(device=DEVICE, every=5), accumulate_grad_batches=4, val_check_interval=2)
    for _, metrics in found:
        assert metrics["meter/flops_per_second"] / metrics["meter/steps_per_second"] == pytest.approx(4 * BATCH_FLOPS)
        assert metrics["meter/steps_per_second"] == pytest.approx(1 / (4 * 0.5))
    assert "meter/mfu" in trainer.callback_metrics


@pytest.mark.parametrize("fail_at", [1, 2, 7])
def test_an_exception_in_a_step_leaves_nothing_behind_and_training_may_begin_again(fail_at):
    callback, model = MeterCallback(device=DEVICE, every=5), Toy(fail_at=fail_at)
    with pytest.raises(ValueError, match="in a step"):
        fit(model, callback)
    found, _ = fit(model, callback)
    assert [step for step, _ in found] == [9, 19]


def test_training_that_ends_inside_an_accumulation_leaves_nothing_behind():
    found, _ = fit(Toy(), MeterCallback(device=DEVICE, every=5), accumulate_grad_batches=4, limit_train_batches=6)
    assert found


def test_manual_optimization_is_metered_by_its_steps():
    class Manual(Toy):
        automatic_optimization = False

        def training_step(self, batch, index):
            self.manual_backward(super().training_step(batch, index))
            if index % 2:
                self.optimizers().step()
                self.optimizers().zero_grad()

    found, _ = fit(Manual(), MeterCallback(device=DEVICE, every=5))
    for _, metrics in found:
        assert metrics["meter/flops_per_second"] / metrics["meter/steps_per_second"] == pytest.approx(2 * BATCH_FLOPS)


def test_an_unknown_device_is_refused_when_training_begins():
    with pytest.raises(DeviceError, match="expected a device with known peaks"):
        fit(Toy(), MeterCallback())


def test_a_dtype_without_a_peak_is_warned_of_and_the_rates_are_logged():
    device = Device(name="toy", peaks={"bfloat16": 1e9}, bandwidth=1e9)
    with pytest.warns(UserWarning, match=r"MeterCallback: no MFU: .*got 'float32'"):
        found, _ = fit(Toy(), MeterCallback(device=device, every=5))
    assert found[0][1].keys() == {"meter/steps_per_second", "meter/flops_per_second"}


def test_training_is_what_it_is_without_the_callback():
    results = []
    for callback in (MeterCallback(device=DEVICE, every=3), lightning.Callback()):
        lightning.seed_everything(0, verbose=False)
        model = Toy()
        fit(model, callback)
        results.append(model.layer.weight.detach().clone())
    assert torch.equal(*results)
