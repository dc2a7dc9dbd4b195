"""Coverage: what was counted, declared free or is unknown, by name, calls and bytes; one verdict, one warning."""

from __future__ import annotations

import warnings

import pytest
import torch

from opcount import OpCounter
from opcount.coverage import Coverage, Share
from opcount.errors import UncountedOperatorError, UncountedOperatorWarning
from opcount.profile import Profile


def through_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() * 2)


first = torch.library.custom_op("coverage::first", through_numpy, mutates_args=())
second = torch.library.custom_op("coverage::second", through_numpy, mutates_args=())
X = torch.ones(4, 4)  # 64 bytes


def program():
    y = X @ X
    first(y.t())
    first(y)
    second(y)


def both():
    first(X)
    second(X)


def fail():
    first(X)
    raise KeyError("of the block")


@pytest.fixture
def coverage():
    with pytest.warns(UncountedOperatorWarning), OpCounter() as c:
        program()
    return c.coverage


def test_every_operator_is_in_one_group_with_its_calls_and_bytes(coverage):
    assert coverage.counted == {"aten.mm.default": Share(1, 64)}
    assert coverage.free == {"aten.t.default": Share(1, 0)}  # a view writes nothing
    assert coverage.uncounted == {"coverage.first.default": Share(2, 128), "coverage.second.default": Share(1, 64)}
    assert not coverage.complete


def test_the_shares_are_those_of_what_is_explained(coverage):
    assert coverage.calls_share == pytest.approx(2 / 5)  # mm and t, of five calls
    assert coverage.bytes_share == pytest.approx(64 / 256)  # mm's, of four results


def test_the_old_names_of_the_shares_are_deprecated(coverage):
    with pytest.warns(DeprecationWarning, match=r"Use Coverage\.calls_share"):
        assert coverage.calls == coverage.calls_share
    with pytest.warns(DeprecationWarning, match=r"Use Coverage\.bytes_share"):
        assert coverage.bytes == coverage.bytes_share


def test_the_verdict_is_one_line(coverage):
    assert coverage.verdict() == (
        "2 operators have no formula, so the total is a lower bound: "
        "coverage.first.default (2 calls), coverage.second.default (1 call)"
    )
    one = Coverage.of([("lib.f.default", "uncounted", 1, 0)], {})
    assert one.verdict().startswith("1 operator has no formula")


def test_of_nothing_at_all_it_is_said_that_nothing_ran():
    nothing = Profile().coverage
    assert nothing.complete
    assert (nothing.calls_share, nothing.bytes_share) == (1.0, 1.0)
    assert nothing.empty
    assert nothing.verdict() == "nothing ran: no operator was seen"


def test_work_of_unknown_modules_is_part_of_the_verdict():
    coverage = Coverage.of([], {"forward was not observed": 3})
    assert coverage.verdict() == (
        "every operator is accounted for; 3 calls charged to the root: forward was not observed"
    )


def test_one_warning_names_all_operators_and_a_second_count_only_new_ones():
    counter = OpCounter()
    with pytest.warns(UncountedOperatorWarning) as caught, counter:
        both()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "coverage.first.default (1 call), coverage.second.default (1 call)" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with counter:
            first(X)
    counter.reset()
    with pytest.warns(UncountedOperatorWarning, match=r"coverage\.first\.default \(1 call\)"), counter:
        first(X)


def test_strict_raises_at_the_end_and_the_count_can_still_be_read():
    counter = OpCounter(strict=True)
    with pytest.raises(UncountedOperatorError, match="2 operators have no formula"), counter:
        program()
    assert sum(counter.coverage.uncounted["coverage.second.default"]) == 1 + 64  # the last call of the block
    assert counter.macs == 4 * 4 * 4


def test_strict_never_hides_an_exception_of_the_block():
    with pytest.raises(KeyError, match="of the block"), OpCounter(strict=True):
        fail()


def test_a_block_that_fails_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError), OpCounter():
            fail()


def test_a_formula_completes_the_coverage():
    ignored = {"coverage::first": None, "coverage::second": None}
    with OpCounter(strict=True, formulas=ignored) as c:
        program()
    assert c.coverage.complete
    assert c.coverage.free["coverage.first.default"] == Share(2, 128)


def test_every_report_of_a_profile_says_the_verdict(coverage):
    with pytest.warns(UncountedOperatorWarning), OpCounter() as c:
        program()
    assert f"coverage: {coverage.verdict()}" in str(c)
    assert Profile.from_json(c.profile.to_json()).coverage == c.coverage
    assert (c.profile + c.profile).coverage.uncounted["coverage.first.default"] == Share(4, 256)


def verdict_of(program, model=None, **options):
    with OpCounter(model, **options) as c:
        program()
    assert f"coverage: {c.coverage.verdict()}" in str(c)
    assert Profile.from_json(c.profile.to_json()).coverage == c.coverage
    return c.coverage.verdict()


NOTHING = "nothing ran: no operator was seen"
FINE = "every operator is accounted for"


def test_an_empty_block_is_said_to_be_empty():
    model = torch.nn.Linear(4, 4)
    assert verdict_of(lambda: None) == verdict_of(lambda: None, model) == NOTHING
    assert verdict_of(lambda: X.shape, model) == NOTHING
    assert verdict_of(lambda: None, every=3) == NOTHING


def test_views_alone_are_work_that_was_seen_but_no_call_of_a_model():
    assert verdict_of(lambda: X.view(16)) == FINE
    assert verdict_of(lambda: X.view(16), torch.nn.Linear(4, 4)) == "the model was never called"


def test_a_model_that_was_never_called_is_said_to_be_while_others_ran():
    model, other = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.nn.Linear(4, 4)
    copied = torch.nn.Sequential(torch.nn.Linear(4, 4))
    uncalled = "the model was never called (other modules were: {})"
    assert verdict_of(lambda: other(X), model) == uncalled.format("Linear")
    assert verdict_of(lambda: copied(X), model) == uncalled.format("Sequential")
    assert verdict_of(lambda: (copied(X), copied(X), other(X)), model) == uncalled.format("Linear and Sequential")
    assert verdict_of(lambda: X @ X, model) == "the model was never called"


def test_a_model_of_which_a_part_was_called_is_called():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert verdict_of(lambda: model[0](X), model) == FINE
    assert verdict_of(lambda: model.forward(X), model) == FINE
    assert verdict_of(lambda: torch.func.functional_call(model, {}, (X,)), model) == FINE
    assert verdict_of(lambda: model(X), torch.nn.ModuleDict({"Sequential": model})) == FINE


def test_a_backward_or_a_step_alone_needs_no_call_of_the_model():
    model = torch.nn.Linear(4, 4)
    loss = model(X).sum()
    assert verdict_of(loss.backward, model).startswith(FINE)  # and that the forward was not observed
    assert verdict_of(torch.optim.SGD(model.parameters()).step, model) == FINE


def test_a_sum_says_what_holds_for_all_of_it():
    model, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    profiles = []
    for program in (lambda: None, lambda: other(X), lambda: model(X)):
        with OpCounter(model) as c:
            program()
        profiles.append(c.profile)
    empty, foreign, own = profiles
    assert (empty + empty).coverage.verdict() == NOTHING
    assert (empty + foreign).coverage.verdict().startswith("the model was never called")
    assert (empty + foreign + own).coverage.verdict() == FINE
