"""A skeleton, a copy of the model without data, runs in place of the model, which stays untouched."""

from __future__ import annotations

import functools
import threading
import weakref
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from opcount import OpCounter, get_model_complexity_info
from opcount.dryrun import skeleton
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from pathlib import Path


class Tangled(nn.Module):
    """Holds itself, and its parts, in every way that Python has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.a, self.b, self.bn = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.b.weight = self.a.weight
        self.lock, self.file, self.numbers = threading.Lock(), path.open(), (n for n in range(3))
        self.itself, self.kept = weakref.ref(self), [{"a": self.a}, (self,)]
        self.calls, inner, closed = 0, self.a.forward, self
        self.a.forward = functools.partial(lambda _, x: inner(x), self.a)  # type: ignore[method-assign]
        self.through_closure = lambda x: closed.b(x) * 1
        self.through_method = self.twice
        self.a.register_forward_hook(lambda _module, _args, out: setattr(closed, "last", out))

    def twice(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.a(self.through_closure(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.through_method(x))  # type: ignore[no-any-return]


@pytest.fixture
def tangled(tmp_path: Path) -> Any:
    path = tmp_path / "file"
    path.touch()
    model = Tangled(path)
    yield model
    model.file.close()


def test_a_skeleton_counts_what_its_model_does_and_leaves_it_alone(tangled: Tangled) -> None:
    copied = skeleton(tangled)
    with OpCounter(copied, dry_run=True) as dry:
        copied(torch.ones(2, 4)).sum().backward()
    assert (tangled.calls, copied.calls, hasattr(tangled, "last")) == (
        0,
        0,
        False,
    )  # what a dry run counts up is put back
    assert all(p.grad is None for p in tangled.parameters())
    with OpCounter(tangled) as real:
        tangled(torch.ones(2, 4)).sum().backward()
    assert {path: total.macs for path, total in dry.by_module().items()} == {
        path: total.macs for path, total in real.by_module().items()
    }
    assert dry.macs == 2 * 2 * 4 * 4 + 3 * 2 * 4 * 4  # forward; two weights, and what goes from one to the other


def test_what_holds_a_part_of_the_model_holds_its_copy(tangled: Tangled) -> None:
    copied = skeleton(tangled)
    assert type(copied) is Tangled
    assert copied.a.weight is copied.b.weight is not tangled.a.weight
    assert copied.itself() is copied
    assert copied.kept[0]["a"] is copied.a
    assert copied.kept[1][0] is copied
    assert copied.through_method.__self__ is copied
    assert (copied.lock, copied.file, copied.numbers) == (tangled.lock, tangled.file, tangled.numbers)


def test_a_skeleton_that_a_dry_run_holds_already_runs_in_one_inside() -> None:
    model = skeleton(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train())
    with OpCounter(model, dry_run=True) as outer:
        info = get_model_complexity_info(model, (3, 8, 8), dry_run=True)
        model(torch.randn(1, 3, 8, 8))
    assert outer.macs == 2 * 4 * 36 * 27  # both runs: outputs, each of 27 products
    assert info["flops"] == 4 * 36 * 27 + 5 * 4 * 36


def test_every_plain_tensor_of_a_skeleton_is_fake(tangled: Tangled) -> None:
    copied = skeleton(tangled)
    assert all(isinstance(t, FakeTensor) for t in (*copied.parameters(), *copied.buffers()))
    assert not any(isinstance(t, FakeTensor) for t in (*tangled.parameters(), *tangled.buffers()))
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in copied.parameters())
    assert list(copied.state_dict()) == list(tangled.state_dict())


def test_a_class_with_its_own_way_to_be_copied_is_asked_and_copies_no_data() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.copies, self.constant = nn.Linear(3, 2), 0, torch.ones(3)

        def __deepcopy__(self, memo: dict[int, Any]) -> Counted:
            copied = type(self)()
            copied.linear.weight = deepcopy(self.linear.weight, memo)
            copied.constant = deepcopy(self.constant, memo)
            copied.copies = self.copies + 1
            return copied

    copied = skeleton(nn.Sequential(Counted()))[0]
    assert copied.copies == 1
    assert isinstance(copied.linear.weight, FakeTensor)
    assert isinstance(copied.constant, FakeTensor)


def test_a_skeleton_of_a_model_on_the_meta_device_is_on_the_cpu() -> None:
    with torch.device("meta"):
        model = nn.Linear(1 << 20, 1 << 20)  # 4 TiB, if it were real
    assert skeleton(model).weight.device == torch.device("cpu")


def test_a_tensor_without_a_plain_fake_one_is_shared() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("graph", torch.eye(3).to_sparse())
    assert skeleton(model).graph is model.graph


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_script_has_no_skeleton() -> None:
    with pytest.raises(DryRunError, match=r"RecursiveScriptModule.*dry_run=False"):
        skeleton(nn.Sequential(torch.jit.script(nn.ReLU())))
