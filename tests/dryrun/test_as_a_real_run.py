"""Programs that a dry run counts as a real run does, since their values are known or have no effect."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from opcount import OpCounter
from opcount.errors import DryRunError
from tests.dryrun.counts import assert_same_counts

if TYPE_CHECKING:
    from collections.abc import Callable


class Keeps(nn.Module):
    """Writes results to its buffers, as caches of keys and values do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("kept", torch.zeros(3, 4))
        self.register_buffer("position", torch.tensor(0))
        self.plain = torch.zeros(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        at = int(self.position)
        self.kept[at : at + 1] = self.linear(x[:1])
        self.plain.copy_(self.linear(x[:2]))
        self.position += 1
        return self.kept[: at + 1].sum() + self.plain.sum()


def raises_if_not_finite(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    if torch.isnan(out).any():
        raise ValueError(f"{out} has no values.")
    if not (out.abs() < 1e9).all() or out.isinf().any().item():
        raise ValueError
    out.sum().backward()


def is_finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def raises_if_a_function_says_so(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    if not is_finite(out):
        raise ValueError
    out.sum().backward()


def validated_distributions(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    torch.distributions.Normal(out, out.exp()).rsample().sum().backward()
    torch.distributions.Categorical(logits=model(torch.randn(3, 4))).entropy().sum().backward()


def checked_loss(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    functional.gaussian_nll_loss(out, torch.zeros(3, 4), out.exp()).backward()


def shuffled_data(model: nn.Module) -> None:
    for x, y in DataLoader(TensorDataset(torch.randn(6, 4), torch.arange(6) % 4), batch_size=4, shuffle=True):
        functional.cross_entropy(model(x), y).backward()


def one_hot_of_results(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    (out * functional.one_hot(out.argmax(-1), 4)).sum().backward()


def constants_of_a_module(model: nn.Module) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(3, 1)
            return x if mask.all() else x * mask

    nn.Sequential(model, nn.Sequential(Masked()))(torch.randn(3, 4)).sum().backward()


def asks_whether_fake(model: nn.Module) -> None:
    out = model(torch.randn(3, 4))
    out = model(out) if isinstance(out, torch._subclasses.FakeTensor) else out
    out.sum().backward()


def transformed(model: nn.Module) -> None:
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    torch.func.grad(loss)(parameters, torch.randn(3, 4))
    torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, torch.randn(3, 4))
    torch.func.jacrev(model)(torch.randn(4))
    torch.func.vjp(model, torch.randn(2, 4))[1](torch.randn(2, 4))


def scaled_gradients(model: nn.Module) -> None:
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.Adam(model.parameters())
    for _ in range(2):
        scaler.scale(model(torch.randn(3, 4)).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


def counted_results(model: nn.Module) -> None:
    right = torch.tensor(0)
    for _ in range(2):
        right += (model(torch.randn(3, 4)).argmax(-1) == torch.tensor([0, 1, 2])).sum()
    model((right / 6).expand(4))


def marked_neighbours(model: nn.Module) -> None:
    x = model(torch.randn(6, 4))
    nearest = torch.arange(6).repeat(6, 1)
    nearest[torch.cdist(x, x) > 1] = 5
    x[nearest.sort(-1)[0][:, :2]].sum().backward()


def counted_classes(model: nn.Module) -> None:
    found, weights = model(torch.randn(9, 4)).argmax(-1), torch.randn(9)
    model(torch.bincount(found, minlength=4).float() * torch.bincount(found, weights, 4))
    model(torch.bincount(torch.tensor([0, 5]), minlength=4).float()[:4])


def factorized(model: nn.Module) -> None:
    x = model(torch.randn(4, 4))
    matrix = x @ x.mT + 4 * torch.eye(4)
    for _ in range(2):
        lower, info = torch.linalg.cholesky_ex(matrix)
        if info.any():
            lower = model(lower)
        inverse, failed = torch.linalg.inv_ex(matrix)
        lower = lower if failed.item() == 0 else model(lower)
        (lower @ inverse).sum().backward(retain_graph=True)


def skips_steps_without_finite_loss(model: nn.Module) -> None:
    loss = model(torch.randn(3, 4)).square().mean()
    missing = torch.isnan(loss)
    if missing.any() or loss.isinf() or not torch.isfinite(loss):
        return
    loss[~missing].sum().backward()


def mask_with_another_dimension(model: nn.Module) -> None:
    mask = torch.tensor([1, 0, 2]) != 0
    mask.unsqueeze_(1)
    (model(torch.randn(3, 4)) * mask)[mask[:, 0]].sum().backward()


def reads_many_tokens(model: nn.Module) -> None:
    lengths = (TOKENS != 0).sum(1)
    lengths[0] = (TOKENS[0] > 0).any() * 99
    x = torch.randn(60, 100, 4)
    packed = nn.utils.rnn.pack_padded_sequence(model(x), lengths, True, enforce_sorted=False)
    packed.data.sum().backward()


def compares_what_is_known(model: nn.Module) -> None:
    steps, x = torch.arange(4), model(torch.randn(4))
    (x * (steps < x) + x * (x <= steps) + x * (steps.float() >= x)).sum().backward()


def differentiated_forward(model: nn.Module) -> None:
    for _ in range(2):  # a result that is remembered would be no zero to PyTorch
        torch.func.jvp(model, (torch.randn(3, 4),), (torch.randn(3, 4),))
    torch.func.hessian(lambda x: model(x).square().sum())(torch.randn(4))


def copied_in_a_transform(model: nn.Module) -> None:
    norm = nn.BatchNorm1d(4, affine=False)
    torch.func.grad(lambda x: copy.deepcopy(norm)(model(x)).square().sum())(torch.randn(3, 4))


TOKENS = torch.randint(0, 3, (60, 100))

PROGRAMS = [
    scaled_gradients, counted_results, marked_neighbours, counted_classes, factorized,
    skips_steps_without_finite_loss, mask_with_another_dimension, reads_many_tokens, compares_what_is_known,
    raises_if_not_finite, raises_if_a_function_says_so, validated_distributions, checked_loss, shuffled_data,
    one_hot_of_results, constants_of_a_module, asks_whether_fake, transformed, differentiated_forward,
    copied_in_a_transform,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit")  # PyTorch scripts derivatives
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_dry_run_counts_what_a_real_one_counts(program: Callable[[nn.Module], None]) -> None:
    assert_same_counts(lambda: nn.Linear(4, 4), program)


def other_way(out: Tensor) -> Tensor:
    return out * 2 if out.isnan().any() else out


def caught(out: Tensor) -> Tensor:
    try:
        if out.isnan().any():
            raise ValueError  # noqa: TRY301
    except ValueError:
        return out * 2
    return out


@pytest.mark.parametrize("decide", [other_way, caught])
def test_what_decides_how_a_program_goes_on_is_no_check(decide: Callable[[Tensor], Tensor]) -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(DryRunError, match="_local_scalar_dense"), OpCounter(model, dry_run=True):
        decide(model(torch.randn(3, 4)))


def test_results_written_to_real_tensors_leave_no_gradient_behind() -> None:
    """``3 * 4 * 4`` MACs each time; and autograd knows the tensors as they were."""
    model, outer, part = Keeps(), torch.zeros(3, 4), torch.zeros(3, 4)[1:]
    with OpCounter(model, dry_run=True) as c:
        for _ in range(2):
            model(torch.randn(2, 4))
        outer.copy_(model.linear(torch.ones(3, 4)))
        part[0] = model.linear(torch.ones(4))
    assert c.macs == 2 * 3 * 4 * 4 + 4 * 4 * 4
    for tensor in (model.kept, model.plain, outer, part):
        assert (tensor.is_leaf, tensor.requires_grad, float(tensor.sum())) == (True, False, 0.0)
    assert int(model.position) == 0


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_images_made_of_tokens_are_laid_out_as_by_the_kernels(batch: int, groups: int) -> None:
    """The layout decides whether a linear layer adds its bias in the product or after it."""

    def operators(*, dry_run: bool) -> set[tuple[str, int]]:
        mix, linear = nn.Conv2d(4, 4, 3, padding=1, groups=groups), nn.Linear(4, 4)
        with torch.no_grad(), OpCounter(dry_run=dry_run) as c:
            image = torch.randn(batch, 16, 4).transpose(1, 2).view(batch, 4, 4, 4)
            linear(mix(image).flatten(2).transpose(1, 2))
        return {(r.operator, r.cost.arith) for r in c.profile.records}

    assert operators(dry_run=True) == operators(dry_run=False)
