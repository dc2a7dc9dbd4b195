"""Loops of which some steps are counted: what is measured, what is extrapolated, and how steps differ."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from opcount import OpCounter, Profile, flop_budget
from opcount.errors import CounterStateError, UncountedOperatorError, UncountedOperatorWarning
from tests import shims
from tests.every.loops import IN, OUT, ROWS, batches, net, step_macs, train


def counted(every, steps, **options):
    model = net()
    c = OpCounter(model, every=every)
    train(model, c, batches(steps), torch.optim.AdamW(model.parameters()), **options)
    return c


def test_measured_and_extrapolated_are_told_apart():
    c = counted(10, 1001)
    steps = c.profile.steps
    assert (steps.total, steps.measured, steps.interrupted) == (1001, 101, 0)
    assert c.macs == c.flops == c.by_module()[""].macs == 101 * step_macs()
    assert c.extrapolated().macs == 1001 * step_macs()
    assert c.extrapolated().by_module()["0"].macs == 1001 * 2 * ROWS * IN * OUT
    assert c.profile.modules["0"].calls == 101
    assert c.extrapolated().modules["0"].calls == 1001
    assert "total measured in 101 of 1001 steps" in str(c)


@pytest.mark.parametrize("steps", [1, 7])
def test_every_step_counted_is_as_without_every(steps):
    profiles = []
    for options in ({}, {"every": 1}):
        model = net()
        c = OpCounter(model, **options)
        torch.manual_seed(1)
        train(model, c, batches(steps), torch.optim.AdamW(model.parameters()), accumulate=2)
        profiles.append(c.profile)
    plain, whole = profiles
    assert replace(whole, steps=None) == plain
    assert (whole.steps.total, whole.steps.measured, whole.steps.partial) == (steps, steps, False)
    estimate = whole.extrapolated()
    assert replace(estimate, records=(), steps=None) == replace(plain, records=())
    assert set(estimate.records) == set(plain.records)


def gpt2():
    shims.install()
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=64, n_embd=8, n_layer=2, n_head=2, use_cache=False, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).train()


def train_gpt2(model, context, lengths):
    """Train as Hugging Face's trainer does: clip, step, schedule; return the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    losses = []
    torch.manual_seed(1)
    for length in lengths:
        batch = torch.randint(0, 50, (2, length))
        with context:
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_gpt2_with_adamw_computes_the_same_bits_and_extrapolates_exactly():
    weights, losses, counters = [], [], []
    for context in (nullcontext(), OpCounter(gpt2()), OpCounter(gpt2(), every=8)):
        model = gpt2() if isinstance(context, nullcontext) else context._scopes.names.model
        losses.append(train_gpt2(model, context, [16] * 40))
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
        counters.append(context)
    assert losses[0] == losses[1] == losses[2]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    _, plain, c = counters
    steps = c.profile.steps
    assert (steps.total, steps.measured, c.coverage.complete) == (40, 5, True)
    assert steps.spread.least == steps.spread.most == steps.spread.first
    estimate = c.extrapolated()
    assert estimate.total[:4] == plain.profile.total[:4]
    for view in ("by_phase", "by_operator", "by_dtype", "by_module"):
        ours, theirs = getattr(estimate, view)(), getattr(plain.profile, view)()
        assert {key: total[:4] for key, total in ours.items()} == {key: total[:4] for key, total in theirs.items()}


def test_lengths_that_vary_are_seen_in_the_spread():
    torch.manual_seed(3)
    lengths = torch.randint(4, 64, (60,)).tolist()
    plain, c = OpCounter(gpt2()), OpCounter(gpt2(), every=5)
    train_gpt2(plain._scopes.names.model, plain, lengths)
    train_gpt2(c._scopes.names.model, c, lengths)
    spread, steps = c.profile.steps.spread, c.profile.steps
    assert steps.measured in (12, 13)
    assert spread.least.macs < spread.first.macs or spread.first.macs < spread.most.macs
    assert spread.most.macs > 2 * spread.least.macs
    assert c.extrapolated().macs == pytest.approx(plain.macs, rel=0.35)  # a dozen steps, of 4 to 63 tokens
    assert "measured steps: from" in str(c)


def test_a_first_step_unlike_the_others_is_not_extrapolated():
    """SGD makes its momentum in the first step: it copies the gradient in place of an update."""
    shims.install()
    torchvision = pytest.importorskip("torchvision")
    counters = []
    for every in (1, 4):
        torch.manual_seed(0)
        model = torchvision.models.resnet18(num_classes=10).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        c = OpCounter(model, every=every)
        for _ in range(10):
            with c:
                optimizer.zero_grad()
                model(torch.randn(2, 3, 32, 32)).mean().backward()
                optimizer.step()
        counters.append(c)
    whole, c = counters
    spread = c.profile.steps.spread
    assert spread.first.arith == spread.least.arith < spread.most.arith
    assert spread.first.macs == spread.least.macs == spread.most.macs
    assert c.profile.steps.measured < 5
    assert c.extrapolated().total[:4] == whole.profile.total[:4]
    assert whole.extrapolated().total == whole.profile.total


def test_gradient_accumulation_is_seen_in_the_spread_and_met_as_often_as_it_occurs():
    model, whole = net(), net()
    c = OpCounter(model, every=10)
    train(model, c, batches(2000), torch.optim.AdamW(model.parameters()), accumulate=5)
    w = OpCounter(whole)
    train(whole, w, batches(2000), torch.optim.AdamW(whole.parameters()), accumulate=5)
    spread = c.profile.steps.spread
    assert spread.least.arith < spread.most.arith
    assert c.extrapolated().macs == w.macs
    assert c.extrapolated().by_phase()["optimizer"].arith == pytest.approx(
        w.by_phase()["optimizer"].arith, rel=0.2
    )  # 200 steps are counted, of which a fifth is met: 40, give or take 6


def test_a_last_batch_that_is_smaller_is_visible_when_it_is_counted():
    model = net()
    c = OpCounter(model, every=1)
    train(model, c, [*batches(5), *batches(1, rows=1)])
    assert c.profile.steps.spread.least.macs == step_macs(1)
    assert c.profile.steps.spread.most.macs == step_macs()


def test_a_loop_in_one_block_is_one_step_and_counted_whole():
    model = net()
    with OpCounter(model, every=100) as c:
        train(model, nullcontext(), batches(20))
    assert c.macs == c.extrapolated().macs == 20 * step_macs()
    assert (c.profile.steps.total, c.profile.steps.measured) == (1, 1)


def test_what_runs_between_two_blocks_is_not_counted():
    model = net()
    c = OpCounter(model, every=2)
    for batch in batches(9):
        with c:
            model(batch)
        with torch.no_grad():
            model(batch)
    assert c.extrapolated().macs == 9 * ROWS * (IN * OUT + OUT)


def test_it_can_be_read_inside_a_step():
    model = net()
    c = OpCounter(model, every=1)
    with c:
        model(*batches(1))
        assert c.macs == ROWS * (IN * OUT + OUT)
        assert c.extrapolated().macs == 0  # no step has ended
        assert "total measured in 0 of 0 steps" in str(c)
    with c:
        model(*batches(1))
        assert c.macs == 2 * ROWS * (IN * OUT + OUT)
        assert c.extrapolated().macs == ROWS * (IN * OUT + OUT)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_steps_that_an_exception_ends_are_left_out_of_the_extrapolation(error):
    model, c = net(), OpCounter(every=10)
    for number, batch in enumerate(batches(200)):
        try:
            with c:
                model[0](batch)
                if number in {0, 5, *range(70, 95)}:
                    raise error  # noqa: TRY301
                model[2](torch.tanh(batch.new_ones(ROWS, OUT)))
        except error:
            pass
    steps = c.profile.steps
    assert (steps.total, steps.interrupted) == (200 - 27, 27)
    assert c.extrapolated().macs == steps.total * ROWS * (IN * OUT + OUT)
    assert steps.spread.least.macs == steps.spread.most.macs
    failed = (c.macs - steps.measured * ROWS * (IN * OUT + OUT)) // (ROWS * IN * OUT)
    assert failed >= 2  # the first, and one among the many in a row
    assert "interrupted: 27 steps" in str(c)


def test_counters_nest():
    model = net()
    sampled, inner = OpCounter(model, every=3), OpCounter(model, every=2)
    with OpCounter(model) as outer:
        for batch in batches(30):
            with sampled, inner:
                model(batch).sum().backward()
            with sampled, OpCounter(model) as plain:
                model(batch).sum().backward()
            assert plain.macs == step_macs()
    assert outer.macs == 60 * step_macs()
    assert sampled.extrapolated().macs == 60 * step_macs()
    assert inner.extrapolated().macs == 30 * step_macs()
    assert sampled.profile.steps.measured in range(20, 22)
    assert inner.profile.steps.measured in range(15, 17)


def test_a_budget_counts_whether_or_not_its_step_is_counted():
    model = net()

    @flop_budget("1 kMAC", exact_macs=step_macs(), model=model)
    def held(batch):
        model(batch).sum().backward()

    c = OpCounter(model, every=4)
    for batch in batches(20):
        with c:
            held(batch)
    assert c.extrapolated().macs == 20 * step_macs()


def test_phases_pauses_and_conventions_are_as_ever():
    model = net()
    c = OpCounter(model, every=3, convention="full")
    for batch in batches(30):
        with c, c.phase("prefill"):
            model(batch)
            c.pause()
            model(batch)
            c.resume()
    assert set(c.by_phase()) == {"prefill"}
    assert c.extrapolated().macs == 30 * ROWS * (IN * OUT + OUT)
    assert c.extrapolated().flops == 2 * c.extrapolated().macs + c.extrapolated().arith


def test_a_pause_outlasts_steps():
    model = net()
    c = OpCounter(model, every=2)
    for number, batch in enumerate(batches(40)):
        with c:
            if number == 10:
                c.pause()
            if number == 25:
                c.resume()
            model(batch)
    assert c.profile.steps.spread.least.macs == 0
    assert c.profile.steps.spread.most.macs == ROWS * (IN * OUT + OUT)


def test_reset_begins_anew_with_a_first_step():
    model = net()
    c = OpCounter(model, every=100)
    train(model, c, batches(5))
    c.reset()
    assert (c.macs, c.profile.steps.total) == (0, 0)
    train(model, c, batches(2))
    assert (c.macs, c.profile.steps.measured, c.extrapolated().macs) == (step_macs(), 1, 2 * step_macs())


@pytest.mark.parametrize("before", [0, 1], ids=["counted", "not counted"])
def test_reset_inside_a_step_is_refused(before):
    model = net()
    c = OpCounter(model, every=100)
    train(model, c, batches(before))
    with c, pytest.raises(CounterStateError, match="Call it between two blocks"):
        c.reset()


@pytest.mark.parametrize("before", [0, 1], ids=["counted", "not counted"])
def test_a_step_inside_a_step_is_refused(before):
    model = net()
    c = OpCounter(model, every=100)
    train(model, c, batches(before))
    with c, pytest.raises(CounterStateError, match="counting already"):
        c.__enter__()
    with pytest.raises(CounterStateError, match="Enter it with"):
        c.__exit__(None, None, None)
    assert c.profile.steps.total == before + 1


@pytest.mark.parametrize("every", [0, -1, True, 1.5, "100"])
def test_every_is_a_whole_number(every):
    with pytest.raises(ValueError, match="expected every to be a whole number from 1 on, got"):
        OpCounter(every=every)


@pytest.mark.parametrize("every", [1, 100])
def test_a_dry_run_has_nothing_to_spare(every):
    with pytest.raises(ValueError, match=f"got dry_run=True and every={every}"):
        OpCounter(net(), dry_run=True, every=every)


def test_before_the_first_step_nothing_can_be_read():
    c = OpCounter(every=10)
    assert str(c) == "OpCounter: nothing was counted yet"
    with pytest.raises(CounterStateError, match="nothing was counted yet"):
        c.extrapolated()


@pytest.fixture
def strange():
    library = torch.library.Library("every_test", "DEF")
    library.define("strange(Tensor x) -> Tensor")
    library.impl("strange", lambda x: torch.from_numpy(x.numpy() * 2), "CPU")
    yield torch.ops.every_test.strange
    library._destroy()


def test_an_operator_without_a_formula_is_told_once(strange):
    c = OpCounter(every=2)

    def loop():
        for _ in range(10):
            with c:
                strange(torch.ones(2))

    with pytest.warns(UncountedOperatorWarning, match=r"every_test\.strange") as caught:
        loop()
    assert len(caught) == 1
    assert not c.coverage.complete


def test_strict_raises_when_a_counted_step_ends_and_the_step_is_one(strange):
    c = OpCounter(every=5, strict=True)
    with pytest.raises(UncountedOperatorError, match=r"every_test\.strange"), c:
        strange(torch.ones(2))
    with c:
        strange(torch.ones(2))
    assert (c.profile.steps.total, c.profile.steps.measured, c.profile.steps.interrupted) == (2, 1, 0)


def test_what_a_graph_of_an_uncounted_step_costs_is_said_to_be_unattributed():
    model = net()
    c = OpCounter(model, every=10)
    loss = None
    for batch in batches(100):
        with c:
            if loss is not None:
                loss.backward()
            loss = model(batch).sum()
    assert c.coverage.unattributed["forward was not observed"]
    assert (
        c.extrapolated().unattributed["forward was not observed"] > c.coverage.unattributed["forward was not observed"]
    )


def test_the_profile_survives_a_file():
    c = counted(3, 20)
    assert Profile.from_json(c.profile.to_json()) == c.profile
    assert Profile.from_json(c.extrapolated().to_json()).steps.extrapolated
