"""The fixture that guards every other test, guarded itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode

from opcount import OpCounter
from tests.conftest import differences, traces


def changed(before):
    return set(differences(before))


@pytest.mark.parametrize(
    ("register", "trace"),
    [
        (register_module_forward_pre_hook, "_global_forward_pre_hooks"),
        (register_module_forward_hook, "_global_forward_hooks"),
        (register_optimizer_step_post_hook, "_global_optimizer_post_hooks"),
    ],
)
def test_a_hook_left_behind_is_a_trace(register, trace):
    before = traces()
    handle = register(lambda *_: None)
    try:
        assert changed(before) == {trace}
    finally:
        handle.remove()


def test_a_dispatch_mode_left_behind_is_a_trace():
    before = traces()
    with TorchDispatchMode():
        assert changed(before) == {"dispatch modes"}


@pytest.mark.parametrize(
    ("owner", "name"), [(torch.nn.Module, "__call__"), (torch.Tensor, "backward"), (torch.optim.Optimizer, "step")]
)
def test_a_patched_class_is_a_trace(monkeypatch, owner, name):
    before = traces()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *_: None)
        assert changed(before) == {f"{owner.__name__}.{name}", f"code of {owner.__name__}.{name}"}
    assert changed(before) == set()


def test_every_mode_that_a_counter_could_forget_to_restore_is_a_trace():
    before = traces()
    with torch.no_grad():
        assert changed(before) == {"grad mode"}
    with torch.autograd.set_multithreading_enabled(False):
        assert changed(before) == {"autograd is multithreaded"}
    with torch.autocast("cpu"):
        assert "autocast" in changed(before)
    with torch.device("meta"):
        assert "default device" in changed(before)


def test_a_running_counter_is_seen_and_a_finished_one_is_not():
    model = torch.nn.Linear(2, 3)
    before = traces()
    with OpCounter(model):
        seen = {"dispatch modes", "autograd's engine", "_global_forward_pre_hooks", "_global_forward_hooks"}
        assert seen <= changed(before)
        model(torch.ones(1, 2)).sum().backward()
    assert changed(before) == set()


def test_a_counter_that_an_exception_ends_leaves_no_trace():
    before = traces()
    with pytest.raises(KeyboardInterrupt), OpCounter():
        raise KeyboardInterrupt
    assert changed(before) == set()
