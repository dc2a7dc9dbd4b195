"""Actions of programs around their forwards: copies, state, gradients by hand."""

from __future__ import annotations

from tests.generator.actions import Action, action
from tests.generator.actions.training import data


@action()
def accumulated(draw):
    return Action(
        [
            "for _ in range(2):",
            f"    loss = model({data(draw)}).square().mean() / 2",
            "    if loss.requires_grad:",
            "        loss.backward()",
            "seen.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0))",
            "model.zero_grad()",
        ]
    )


@action()
def copied_model(draw):
    return Action([f"seen.append(copy.deepcopy(model)({data(draw)}))"])


@action()
def state_dict(draw):
    return Action(
        [
            "model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})",
            f"seen.append(model({data(draw)}))",
        ]
    )


@action()
def average(draw):
    return Action(
        [
            "averaged = torch.optim.swa_utils.AveragedModel(model)",
            "averaged.update_parameters(model)",
            f"seen.append(averaged({data(draw)}))",
        ]
    )


@action()
def evaluated(draw):
    return Action(
        [
            "model.eval()",
            f"seen.append(model({data(draw)}))",
            "model.train()",
            f"seen.append(model({data(draw)}))",
        ]
    )


@action()
def counted_too(draw):
    """A counter of the program's own, entered twice, copied in between."""
    copied = draw.pick(["counter", "copy.copy(counter)", "copy.deepcopy(counter, {id(model): model})"])
    options = draw.pick(["", ", every=1", ", convention='torch'"])
    return Action(
        [
            f"counter = OpCounter(model{options})",
            "with counter:",
            f"    out = model({data(draw)})",
            f"counter = {copied}",
            "with counter:",
            "    if out.requires_grad:",
            "        out.square().mean().backward()",
            f"    model({data(draw)})",
            "seen.extend([counter.macs, counter.flops, sorted(counter.by_phase())])",
        ]
    )


@action()
def sampled(draw):
    return Action(
        [
            f"counter = OpCounter(model, every={draw.pick([2, 3])})",
            "for _ in range(4):",
            "    with counter:",
            f"        if (loss := model({data(draw)}).square().mean()).requires_grad:",
            "            loss.backward()",
            "seen.extend([counter.macs, counter.extrapolated().total.macs])",
        ]
    )
