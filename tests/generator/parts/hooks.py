"""Hooks on modules, tensors and what autograd saves."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part(2, deep=True)
def hooked(grow):
    block, name = grow.inner(), grow.draw.name("hooked")
    hook = grow.draw.pick(
        [
            "register_forward_hook(lambda module, args, out: out * 0.5)",
            "register_forward_hook(lambda module, args, kwargs, out: out + args[0], with_kwargs=True)",
            "register_forward_pre_hook(lambda module, args: (args[0].tanh(),))",
            "register_full_backward_hook(lambda module, grads, given: tuple(g * 2 for g in grads if g is not None))",
            "register_full_backward_pre_hook(lambda module, given: (given[0] * 2,))",
            "register_forward_hook(lambda module, args, out: None, always_call=True)",
        ]
    )
    return Part(
        init=[f"self.{name} = {block.name}()", f"self.{name}.{hook}"],
        forward=[f"x = self.{name}(x)"],
        blocks=[block],
    )


@part()
def hooked_tensor(grow):
    hook = grow.draw.pick(["lambda grad: grad * 0.5", "lambda grad: None", "lambda grad: grad @ grad.mT @ grad"])
    return Part(forward=["x = x.sin()", "if x.requires_grad:", f"    x.register_hook({hook})"])


@part()
def hooked_weight(grow):
    draw, name = grow.draw, grow.draw.name("hooked")
    hook = draw.pick(
        [
            "weight.register_hook(lambda grad: grad.clamp(-1, 1))",
            "weight.register_post_accumulate_grad_hook(lambda p: [p.grad.mul_(0.5)] and None)",
            "weight.register_hook(lambda grad: grad @ grad.t() @ grad)",
        ]
    )
    return Part(
        init=[f"self.{name} = nn.Linear({draw.e}, {draw.e})", f"self.{name}.{hook}"],
        forward=[f"x = self.{name}(x)"],
    )


@part(deep=True)
def saved_elsewhere(grow):
    block, name = grow.inner(), grow.draw.name("saved")
    hooks = grow.draw.pick(
        [
            "torch.autograd.graph.save_on_cpu()",
            "torch.autograd.graph.saved_tensors_hooks(lambda t: (t.dtype, t.double()), lambda t: t[1].to(t[0]))",
            "torch.autograd.graph.saved_tensors_hooks(lambda t: (t,), lambda t: t[0])",
        ]
    )
    return Part(
        init=[f"self.{name} = {block.name}()"],
        forward=[f"with {hooks}:", f"    x = self.{name}(x)"],
        blocks=[block],
    )
