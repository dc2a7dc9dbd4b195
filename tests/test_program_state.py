"""State that a program sets inside a block stays its own: only what is still the counter's is put back."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.autograd.variable import Variable
from torch.nn.modules import module as modules

from opcount import OpCounter, flop_budget, get_model_complexity_info
from opcount.compat.fvcore import FlopCountAnalysis
from opcount.compat.torch import FlopCounterMode


class Careful(nn.Linear):
    def __init__(self):
        super().__init__(3, 4)

    def forward(self, x):
        warnings.warn("careful", stacklevel=1)
        return super().forward(x)


MODEL = Careful()
X = torch.ones(2, 3)


def counted():
    with OpCounter(MODEL):
        MODEL(X)


def in_a_budget():
    with flop_budget("1 GMAC"):
        MODEL(X)


def as_torch_counts():
    with FlopCounterMode(display=False):
        MODEL(X)


def as_mmengine_counts():
    get_model_complexity_info(MODEL, (3,), show_table=False, show_arch=False)


def silently_as_fvcore_counts():
    FlopCountAnalysis(MODEL, X).tracer_warnings("none").total()


@pytest.mark.parametrize("program", [counted, in_a_budget, as_torch_counts, as_mmengine_counts])
def test_a_warning_that_was_shown_once_is_not_shown_again(program):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda *args, **_: shown.append(str(args[0]))
        for _ in range(3):
            program()
    assert shown == ["careful"]


def test_hidden_warnings_are_shown_once_before_and_not_again():
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda *args, **_: shown.append(str(args[0]))
        filters = list(warnings.filters)
        silently_as_fvcore_counts()
        assert shown == []
        for _ in range(3):
            MODEL(X)
            silently_as_fvcore_counts()
        assert warnings.filters == filters
    assert shown == ["careful"]


@pytest.mark.parametrize("multithreaded", [True, False])
def test_autograds_threads_are_the_programs_own(multithreaded):
    with torch.autograd.set_multithreading_enabled(not multithreaded):
        with OpCounter():
            torch._C._set_multithreading_enabled(multithreaded)
            MODEL.weight.sum().backward()
        assert torch._C._is_multithreading_enabled() is multithreaded


def test_a_backward_runs_on_the_calling_thread_alone():
    seen = []
    x = torch.ones(2, requires_grad=True)
    with OpCounter():
        y = x * 2
        y.register_hook(lambda _: seen.append(torch._C._is_multithreading_enabled()))
        y.sum().backward()
        assert torch._C._is_multithreading_enabled()
    assert seen == [False]


def stance():
    return torch._dynamo.eval_frame._stance.stance


@pytest.fixture
def default_stance():
    import torch._dynamo  # noqa: PLC0415  (it takes a second)

    yield
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("default_stance")
def test_the_stance_of_the_compiler_is_the_programs_own():
    with OpCounter():
        assert stance() == "force_eager"
        torch.compiler.set_stance("eager_on_recompile")
    assert stance() == "eager_on_recompile"
    torch.compiler.set_stance("default")
    with OpCounter():
        torch.compiler.set_stance("force_eager")  # as ours, and yet the program's
    assert stance() == "force_eager"


@pytest.mark.usefixtures("default_stance")
def test_a_stance_that_outlives_the_block_brings_back_what_was_before_it():
    with OpCounter():
        inside = torch.compiler.set_stance("eager_on_recompile")
    inside.__exit__(None, None, None)
    assert stance() == "default"


@pytest.mark.usefixtures("default_stance")
def test_overlapping_counters_restore_the_stance_when_both_have_left():
    first, second = OpCounter(), OpCounter()
    first.__enter__()
    torch.compiler.set_stance("fail_on_recompile")
    second.__enter__()
    assert stance() == "force_eager"
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert stance() == "fail_on_recompile"


def test_counters_on_several_threads_leave_the_engine_and_the_stack_as_they_were():
    engine, both = Variable._execution_engine, threading.Barrier(2)

    def work():
        with OpCounter() as c:
            both.wait()
            MODEL.weight.sum().backward()
            both.wait()
        counts.append(c.profile.coverage.empty)

    counts = []
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Variable._execution_engine is engine
    assert counts == [False, False]


def test_an_engine_that_a_program_puts_there_inside_stays():
    own, engine = object(), Variable._execution_engine
    try:
        with OpCounter():
            Variable._execution_engine = own
        assert Variable._execution_engine is own
    finally:
        Variable._execution_engine = engine


def test_fast_paths_that_a_dry_block_switches_are_its_own():
    with OpCounter(dry_run=True):
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled() is True
    try:
        with OpCounter(dry_run=True):
            torch.backends.mha.set_fastpath_enabled(value=False)
        assert torch.backends.mha.get_fastpath_enabled() is False
    finally:
        torch.backends.mha.set_fastpath_enabled(value=True)


def test_dynamo_asks_of_the_hooks_of_others_alone():
    ask = modules._has_any_global_hook
    with OpCounter():
        assert not modules._has_any_global_hook()
        handle = modules.register_module_forward_hook(lambda *_: None)
        assert modules._has_any_global_hook()
        handle.remove()
        assert not modules._has_any_global_hook()
    assert modules._has_any_global_hook is ask


def test_dispatch_flags_are_right_after_counters_that_overlap():
    from torch.utils import _python_dispatch  # noqa: PLC0415

    first, second = OpCounter(), OpCounter()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert not _python_dispatch.is_in_torch_dispatch_mode()
