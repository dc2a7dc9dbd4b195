"""What programs do around their forwards: copies, state, gradients by hand."""

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
