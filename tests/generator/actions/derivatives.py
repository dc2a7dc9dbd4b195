"""Derivatives of derivatives, transforms of the whole model, backwards on other threads."""

from __future__ import annotations

from tests.generator.actions import Action, action
from tests.generator.actions.training import data


@action()
def penalty(draw):
    return Action(
        [
            f"x = {data(draw, grad=True)}",
            "[slope] = torch.autograd.grad(model(x).sin().sum(), x, create_graph=True, allow_unused=True)",
            "if slope is not None and slope.requires_grad:",
            "    slope.square().sum().backward()",
            "seen.append(slope)",
        ],
    )


@action()
def backward_elsewhere(draw):
    return Action(
        [
            f"x = {data(draw)}",
            "loss = model(x).square().mean()",
            "if loss.requires_grad:",
            "    worker = threading.Thread(target=loss.backward)",
            "    worker.start()",
            "    worker.join()",
            "seen.append(loss)",
        ],
        traits={"elsewhere"},
    )


@action()
def forward_elsewhere(draw):
    return Action(
        [
            f"inputs = [{data(draw)}, {data(draw)}]",
            "for x in inputs:",
            "    worker = threading.Thread(target=lambda x=x: seen.append(model(x)))",
            "    worker.start()",
            "    worker.join()",
        ],
        traits={"threads"},
    )


@action()
def functional_gradient(draw):
    return Action(
        [
            f"x = {data(draw, grad=False)}",
            "weights = {name: p.detach() for name, p in model.named_parameters()}",
            "loss = lambda weights: torch.func.functional_call(model, weights, (x,)).square().mean()",
            "seen.extend(torch.func.grad(loss)(weights).values())",
        ],
    )


@action()
def interrupted(draw):
    """A hook raises in the middle of a backward."""
    return Action(
        [
            "def fail(grad):",
            "    raise ValueError",
            "",
            f"x = {data(draw, grad=True)}",
            "out = model(x.sin())",
            "if out.requires_grad:",
            "    out.register_hook(fail)",
            "    with contextlib.suppress(ValueError):",
            "        out.square().mean().backward()",
            "seen.append(out)",
        ]
    )
