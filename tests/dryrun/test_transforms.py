"""Functions that ``torch.func`` transforms, in a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from tests.features import require

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, for forward derivatives

ROWS = torch.ones(3, 8)
TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor]], object]] = {
    "grad": lambda f: torch.func.grad(f)(ROWS[0]),
    "jvp": lambda f: torch.func.jvp(f, (ROWS[0],), (ROWS[0],)),
    "vmap": lambda f: torch.func.vmap(f)(ROWS),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f))(ROWS),
    "grad of vmap": lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum())(ROWS),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("made", [lambda x: x, lambda x: (x * 2).detach()], ids=["argument", "result"])
def test_giving_a_tensor_the_data_of_a_transform_is_an_error_and_no_crash(
    transform: str, made: Callable[[Tensor], Tensor]
) -> None:
    if transform == "jvp":
        require("forward derivatives of products with numbers under a mode")
    held = torch.ones(8)

    def give(x: Tensor) -> Tensor:
        held.data = made(x)
        return (x * held).sum()

    with pytest.raises(RuntimeError, match=r"mutating directly with `.data`"), OpCounter(dry_run=True):
        TRANSFORMS[transform](give)
    assert torch.equal(held, torch.ones(8))


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.LazyBatchNorm1d()], ids=["linear", "norm"])
def test_a_lazy_module_that_is_made_in_a_gradient_transform_is_an_error_and_no_crash(lazy: nn.Module) -> None:
    with pytest.raises(RuntimeError, match=r"mutating directly with `.data`"), OpCounter(dry_run=True):
        torch.func.grad(lambda scale: (lazy(ROWS) * scale).sum())(torch.ones(()))
    assert lazy.has_uninitialized_params()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("training", [False, True])
def test_buffers_of_a_module_that_is_first_called_in_a_transform_stay_its_own(transform: str, training: bool) -> None:
    """PyTorch refuses that some transforms write to them."""
    found = []
    for dry in (False, True):
        model = nn.BatchNorm1d(8).train(training)
        with OpCounter(dry_run=dry) as c:
            try:
                TRANSFORMS[transform](lambda x, model=model: (model(ROWS) * x).sum())
                error = None
            except RuntimeError as raised:
                error = str(raised)
        found.append((error, c.by_operator()))
        assert not any(map(torch._C._functorch.is_functorch_wrapped_tensor, model.buffers()))
    assert found[0] == found[1]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_a_parameter_may_be_made_in_a_transform(transform: str, needs_gradient: bool) -> None:
    needed = []

    def make(x: Tensor) -> Tensor:
        weight = nn.Parameter(torch.ones(8), requires_grad=needs_gradient)
        needed.append(weight.requires_grad)
        return (weight * x).sum()

    counts = []
    for dry in (False, True):
        with OpCounter(dry_run=dry) as c:
            TRANSFORMS[transform](make)
        counts.append({name: (total.calls, total.macs, total.arith) for name, total in c.by_operator().items()})
    assert counts[0] == counts[1]
    assert needed[0] == needed[-1] == needs_gradient


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_models_are_stacked_and_called_by_one_that_the_counted_model_does_not_hold(device: str) -> None:
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
            self.base = [nn.Linear(8, 4, device=device)]

        def forward(self, x: Tensor) -> Tensor:
            state = torch.func.stack_module_state(list(self.members))
            return torch.func.vmap(lambda *state: torch.func.functional_call(self.base[0], state, (x,)))(*state)

    model = Ensemble()
    before, out = model.base[0].weight, model(ROWS) if device == "cpu" else None
    counts = []
    for dry in (False, True):
        with OpCounter(model, dry_run=dry) as c:
            model(ROWS)
        counts.append(c.by_module())
    assert counts[0] == counts[1]
    assert counts[1][""].macs == 3 * 3 * 8 * 4
    assert model.base[0].weight is before
    assert out is None or torch.equal(model(ROWS), out)


def test_derivatives_that_are_known_to_be_zero_stay_so_after_other_tensors_of_that_shape() -> None:
    weight = nn.Parameter(torch.ones(7, 7))  # without a tangent
    counts = []
    with OpCounter(dry_run=True):
        torch.randn(7, 7).t()
    for dry in (False, True):
        weight.grad = None
        with OpCounter(dry_run=dry) as c:
            x = torch.randn(2, 4, 7, requires_grad=True)
            out, tangent = torch.func.jvp(lambda y: (y @ weight).tanh(), (x,), (x.detach(),))
            (out + tangent).sum().backward()
        counts.append(c.by_operator())
    assert counts[0] == counts[1]


SLICE = torch.randn(2, 3, 8, 8)[:1, :, :4, :4]
"""Its elements do not lie side by side; derivatives of it do not, either."""


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Conv2d(3, 8, 3), lambda: nn.Linear(4, 3), lambda: nn.LayerNorm(4), nn.GELU, lambda: nn.MaxPool2d(2)],
)
def test_a_hessian_of_a_slice_counts_as_for_real(make: Callable[[], nn.Module]) -> None:
    require("forward derivatives of products with numbers under a mode")
    layer, counts = make().eval(), []
    for dry in (False, True):
        with OpCounter(layer, dry_run=dry) as counter:
            torch.func.hessian(lambda x: layer(x).sin().sum())(SLICE)
        counts.append(
            {name: (t.calls, t.macs, t.arith) for name, t in counter.by_operator().items() if t.macs or t.arith}
        )
    assert counts[0] == counts[1]


@pytest.mark.parametrize("x", [SLICE, torch.randn(3, 8)[:, ::2], torch.randn(8, 3).t(), torch.randn(2000, 80)[:, ::2]])
def test_small_results_have_the_strides_that_were_asked_for(x: Tensor) -> None:
    def strides() -> list[tuple[int, ...]]:
        zeros = torch.ops.aten._new_zeros_with_same_feature_meta(x, x)
        made = [x.new_empty_strided(x.shape, x.stride()), torch.empty_strided(x.shape, x.stride()), zeros]
        return [tensor.stride() for tensor in [*made, x.clone(), x + 1, made[0] + 1]]

    real = strides()
    with OpCounter(dry_run=True):
        assert strides() == real
