"""Facts of a profile about what was counted: inputs, batch, dtype, device, optimizer, in every report."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import OpCounter, Profile
from opcount.reporter import diff_table, html, markdown, operators, tree


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, x, *rest, mask=None, cache=None):
        return self.fc(x)


def counted(model, *args, **kwargs):
    with OpCounter(model) as c:
        model(*args, **kwargs)
    return c.profile


def test_inputs_are_named_with_shapes_and_dtypes_as_the_command_line_takes_them():
    mask, cache = torch.ones(4, 6, dtype=torch.bool), [torch.ones(1), {"k": torch.ones(2, 3)}]
    profile = counted(Two(), torch.ones(4, 6), torch.ones(()), mask=mask, cache=cache)
    assert profile.provenance["inputs"] == (
        "x=4x6:float32 scalar:float32 mask=4x6:bool cache[0]=1:float32 cache[1].k=2x3:float32"
    )
    assert (profile.modules["fc"].inputs, profile.modules["fc"].outputs) == ("4x6", "4x2")


def test_every_report_says_what_was_counted_and_json_keeps_it():
    model = Two().train()
    optimizer = torch.optim.AdamW(model.parameters())
    with OpCounter(model) as c:
        model(torch.ones(4, 6)).sum().backward()
        optimizer.step()
    facts = ["inputs: x=4x6:float32", "counted: Two, train, grad, float32, cpu, AdamW, batch 4, real run"]
    for text in (str(c), tree.render(c.profile), operators.render(c.profile)):
        assert set(facts) <= set(text.splitlines())
    assert "* inputs: x=4x6:float32" in markdown.render(c.profile)
    page = html.render(c.profile)
    assert (
        '<p id="subtitle">x=4x6:float32; Two, train, grad, float32, cpu, AdamW, batch 4, real run; per sample' in page
    )
    again = Profile.from_json(c.profile.to_json()).provenance
    assert (again["optimizer"], again["dtype"], again["batch size"]) == ("AdamW", "float32", "4")


def test_a_batch_adds_what_one_sample_costs():
    model = Two()  # 4 x 6 x 2 = 48 MACs
    assert "per sample (batch 4): 12 MAC = 24 FLOP at 2 per MAC" in str(counted(model, torch.ones(4, 6)))
    assert "per sample" not in str(counted(model, torch.ones(1, 6)))
    assert "per sample" not in str(counted(model, torch.ones(6)))
    with OpCounter(model) as c:
        for _ in range(3):
            model(torch.ones(4, 6))
    assert "per sample (batch 4): 12 MAC" in str(c)
    assert "per sample (batch 4): 12 MAC" in str(c.profile + c.profile)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.LSTM(3, 4), torch.ones(5, 2, 3)),  # the sequence comes first
        (nn.Conv2d(3, 8, 3), torch.ones(3, 9, 9)),  # an image without a batch
        (nn.Flatten(0), torch.ones(4, 6)),
    ],
    ids=["sequence", "image", "flat"],
)
def test_a_first_dimension_that_is_no_batch_is_not_taken_for_one(model, x):
    assert "batch size" not in counted(model, x).provenance


def test_several_inputs_are_listed_once_each_and_few_of_many():
    model = Two()
    with OpCounter(model) as c:
        for rows in (2, 2, 3):
            model(torch.ones(rows, 6))
    assert c.profile.provenance["inputs"] == "x=2x6:float32, x=3x6:float32"
    assert "batch size" not in c.profile.provenance
    with c:
        for rows in range(2, 99):
            model(torch.ones(rows, 6))
    assert c.profile.provenance["inputs"] == "x=2x6:float32, x=3x6:float32, x=4x6:float32, and others"
    c.reset()
    assert "inputs" not in c.profile.provenance


def test_calls_that_alternate_are_listed_once_each_whatever_holds_their_tensors():
    model = Two()
    deep = [[[[torch.ones(9)]]]]  # is not looked into
    with OpCounter(model) as c:
        for cache in ([torch.ones(2)], {"k": torch.ones(2, 1)}, deep) * 3:
            model(torch.ones(4, 6), cache=cache)
    assert c.profile.provenance["inputs"] == (
        "x=4x6:float32 cache[0]=2:float32, x=4x6:float32 cache.k=2x1:float32, x=4x6:float32"
    )


class Several(nn.Module):
    def forward(self, x, *rest, **named):
        return {"out": x, "rest": rest, "none": None}


def test_a_submodule_shows_the_shapes_of_all_tensors_of_its_first_call():
    model = nn.Sequential(Several())
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged)
    calls = {
        "3": lambda inner: inner(torch.ones(3)),
        "scalar, 2, 1x2": lambda inner: inner(torch.ones(()), [torch.ones(2), 7], k={"v": torch.ones(1, 2)}),
        "2, nested": lambda inner: inner(torch.ones(2), nested),
        ", ".join(["1"] * 16 + ["..."]): lambda inner: inner(*[torch.ones(1)] * 17),
    }
    for inputs, call in calls.items():
        with OpCounter(model) as c:
            call(model[0])
            model[0](torch.ones(5))
        assert (c.profile.modules["0"].inputs, c.profile.modules["0"].calls) == (inputs, 2)
        assert c.profile.modules["0"].outputs == inputs.replace(", 1x2", "")


def test_a_long_list_is_not_looked_through():
    with OpCounter(Two()) as c:
        c._model(torch.ones(4, 6), cache=[0] * 10**6 + [torch.ones(3)])
    assert c.profile.provenance["inputs"] == "x=4x6:float32"


def test_without_a_model_the_outermost_modules_say_what_they_were_called_with():
    with OpCounter() as c:
        nn.Sequential(nn.Linear(6, 2))(torch.ones(4, 6))
        nn.ReLU()(torch.ones(3))
    assert c.profile.provenance["inputs"] == "Sequential(input=4x6:float32), ReLU(input=3:float32)"


def test_a_dry_run_and_a_sum_of_equal_counts_say_the_same():
    model = Two()
    with OpCounter(model, dry_run=True) as c:
        model(torch.ones(4, 6), torch.ones(1))
    assert c.profile.provenance["inputs"] == "x=4x6:float32 1:float32"
    total = c.profile + c.profile + c.profile
    assert total.provenance["inputs"] == "x=4x6:float32 1:float32"


def test_looking_at_tensors_leaves_no_trace_for_modes_and_traces():
    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    model, x, lists = Two(), torch.ones(4, 6), []
    for count in (False, True):
        seen: list[object] = []
        with Watch():
            if count:
                with OpCounter(model):
                    model(x)
            else:
                model(x)
        lists.append([each for each in seen if getattr(each, "__name__", "") != "__get__"])
        assert not any("shape" in str(each) for each in seen)
    with OpCounter(model), pytest.warns((DeprecationWarning, FutureWarning), match="is deprecated"):
        traced = torch.jit.trace(model.fc, x)
    assert "aten::size" not in str(traced.graph)


def test_a_diff_warns_of_other_inputs():
    model = Two()
    one, other = counted(model, torch.ones(4, 6)), counted(model.eval(), torch.ones(8, 6))
    diff = one.diff(other)
    assert diff.differences == (
        ("inputs", "x=4x6:float32", "x=8x6:float32"),
        ("batch size", "4", "8"),
        ("mode", "train", "eval"),
    )
    assert "warning: inputs before: x=4x6:float32; after: x=8x6:float32" in diff_table.render(diff)
    assert "warning: inputs before" in diff_table.render_markdown(diff)
    assert one.diff(one).differences == one.diff(Profile()).differences == ()


def test_a_counter_whose_model_never_ran_says_so_and_so_does_an_empty_block():
    with OpCounter(Two()) as c:
        pass
    assert "nothing ran" in str(c)
    with OpCounter(Two()) as other:
        torch.ones(2).add(1)
    assert "the model was never called" in str(other)
    assert not any("accounted for" in text for text in (str(c), str(other), html.render(c.profile)))
