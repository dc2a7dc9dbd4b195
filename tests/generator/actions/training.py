"""Forwards, backwards and steps of an optimizer."""

from __future__ import annotations

from tests.generator.actions import Action, action


def data(draw, *, grad=None):
    """Return the text of an input."""
    grad = draw.chance(0.4) if grad is None else grad
    return f"torch.randn({draw.b}, {draw.l}, {draw.e}{', requires_grad=True' if grad else ''})"


@action(2)
def forward(draw):
    guard = draw.pick(["torch.no_grad()", "torch.enable_grad()", "torch.no_grad()"])
    return Action([f"with {guard}:", f"    seen.append(model({data(draw)}))"])


@action(5)
def backward(draw):
    lines = [f"x = {data(draw)}", "loss = model(x).square().mean()"]
    tail = draw.pick(
        [
            ["loss.backward()"],
            ["loss.backward(retain_graph=True)", "loss.backward()"],
            ["(loss + model(x).sin().mean()).backward()"],
            ["torch.autograd.backward([loss])"],
        ]
    )
    return Action([*lines, "if loss.requires_grad:", *(f"    {line}" for line in tail), "seen.extend([loss, x])"])


@action()
def interleaved(draw):
    return Action(
        [
            f"first, second = model({data(draw, grad=True)}).mean(), model({data(draw, grad=True)}).mean()",
            "if first.requires_grad and second.requires_grad:",
            "    first.backward()",
            "    second.backward()",
            "seen.extend([first, second])",
        ]
    )


@action()
def gradients(draw):
    what = draw.pick(["[x]", "list(model.parameters())", "[x, *model.parameters()]"])
    return Action(
        [
            f"x = {data(draw, grad=True)}",
            f"inputs = [each for each in {what} if each.requires_grad]",
            "if inputs and (loss := model(x).sin().mean()).requires_grad:",
            "    seen.extend(torch.autograd.grad(loss, inputs, allow_unused=True))",
        ]
    )


@action(2)
def step(draw):
    optimizer = draw.pick(
        [
            "SGD(weights, lr=0.01)",
            "SGD(weights, lr=0.01, momentum=0.9)",
            "Adam(weights, lr=0.01)",
            "AdamW(weights, lr=0.01, foreach=False)",
            "AdamW(weights, lr=0.01, fused=True)",
            "Adagrad(weights, lr=0.01)",
        ]
    )
    count = draw.pick([1, 2])
    return Action(
        [
            "weights = [weight for weight in model.parameters() if weight.requires_grad]",
            "if weights:",
            f"    optimizer = torch.optim.{optimizer}",
            f"    for _ in range({count}):",
            f"        if (loss := model({data(draw, grad=True)}).square().mean()).requires_grad:",
            "            loss.backward()",
            "        optimizer.step()",
            f"    optimizer.zero_grad({draw.pick(['', 'set_to_none=False'])})",
            "    seen.extend(value for state in optimizer.state.values() for value in state.values())",
        ]
    )


@action()
def closure(draw):
    """An optimizer that calls the model itself, as often as it needs."""
    optimizer = draw.pick(["LBFGS(weights, lr=0.1, max_iter=2)", "SGD(weights, lr=0.01)"])
    return Action(
        [
            "def closure():",
            "    optimizer.zero_grad()",
            "    if (loss := model(x).square().mean()).requires_grad:",
            "        loss.backward()",
            "    return loss",
            "",
            f"x, weights = {data(draw)}, [weight for weight in model.parameters() if weight.requires_grad]",
            "if weights:",
            f"    optimizer = torch.optim.{optimizer}",
            "    seen.append(optimizer.step(closure))",
        ],
        traits={"data"},
    )


@action()
def phase(draw):
    return Action(
        [
            f"with c.phase('{draw.pick(['prefill', 'decode', 'warm up'])}'):",
            f"    loss = model({data(draw)}).mean()",
            "if loss.requires_grad:",
            "    loss.backward()",
        ]
    )


@action()
def pause(draw):
    return Action(["c.pause()", f"seen.append(model({data(draw)}))", "c.resume()", f"seen.append(model({data(draw)}))"])


@action(2)
def mode(draw):
    change = draw.pick(
        [
            "model.eval()",
            "model.train()",
            "[setattr(p, 'requires_grad', False) for p in model.parameters()]",
            "[setattr(p, 'requires_grad', i % 2 == 0) for i, p in enumerate(model.parameters())]",
        ]
    )
    return Action(before=[change])
