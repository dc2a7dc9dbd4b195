"""Plain tensor subclasses, as torchvision's: made before a dry run and inside it, they count as in a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable


class Plain(Tensor):
    """Results are of its class, too."""


class Named(Tensor):
    """Subclass that looks at every function."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


class Image(Tensor):
    """Results are plain tensors."""

    def __new__(cls, data: Any) -> Any:
        return torch.as_tensor(data).as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not all(issubclass(cls, kind) for kind in types):
            return NotImplemented
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class Made(Tensor):
    def __new__(cls, data: Any) -> Any:
        return Tensor._make_subclass(cls, torch.as_tensor(data, dtype=torch.float))


LINEAR = nn.Linear(4, 4)
"""48 MACs for three rows."""

PROGRAMS: dict[str, Callable[[Any], object]] = {
    "of an input": lambda kind: LINEAR(torch.randn(3, 4).as_subclass(kind)).tanh(),
    "of a result": lambda kind: LINEAR(LINEAR(torch.randn(3, 4)).as_subclass(kind)).sum().backward(),
    "and back": lambda kind: LINEAR(LINEAR(torch.randn(3, 4).as_subclass(kind)).as_subclass(Tensor)),
    "unbound": lambda kind: LINEAR(Tensor.as_subclass(torch.randn(3, 4), kind)),
    "in place": lambda kind: LINEAR(torch.randn(3, 4)).as_subclass(kind).mul_(2).add_(torch.ones(4)).view(-1).split(4),
    "called": lambda kind: LINEAR(kind(torch.randn(3, 4))) + kind([1.0, 2.0, 3.0, 4.0]),
    "sizes": lambda kind: LINEAR(torch.randn(3, 4)[: int(torch.tensor([2]).as_subclass(kind)[0])]),
    "both at once": lambda kind: LINEAR(torch.randn(3, 4).as_subclass(kind) + BEFORE[kind]),
    "made before": lambda kind: LINEAR(BEFORE[kind]).square(),
    "twice": lambda kind: LINEAR(torch.randn(3, 4).as_subclass(kind).as_subclass(Named)),
    "without gradients": torch.no_grad()(lambda kind: LINEAR(torch.randn(3, 4).as_subclass(kind)).tanh()),
    "in a transform": lambda kind: torch.func.grad(
        lambda weight: LINEAR(functional.linear(torch.randn(3, 4).as_subclass(kind), weight).as_subclass(Tensor)).sum()
    )(torch.ones(4, 4)),
    "placed in a transform": lambda kind: torch.func.grad(
        lambda weight: LINEAR(
            (torch.randn(3, 4).as_subclass(kind) * weight[0]).to(weight.device).double().float()
        ).sum()
    )(torch.ones(4, 4)),
    "in inference mode": torch.inference_mode()(lambda kind: LINEAR(torch.randn(3, 4).as_subclass(kind)).tanh()),
}

KINDS = (Plain, Named, Image, Made)
BEFORE = {kind: torch.randn(3, 4).as_subclass(kind) for kind in KINDS}


def counted(run: Callable[[], object], *, dry: bool) -> set[object]:
    with OpCounter(LINEAR, dry_run=dry) as c:
        run()
    LINEAR.zero_grad()
    return {(r.stack, r.operator, r.phase, r.calls, r.cost) for r in c.profile.records}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_plain_subclasses_count_as_in_a_real_run(name: str, kind: type[Tensor]) -> None:
    real, dry = (counted(lambda: PROGRAMS[name](kind), dry=dry) for dry in (False, True))
    assert dry == real
    assert dry


def test_a_parameter_of_a_plain_subclass_counts() -> None:
    """``3 * 4 * 4`` MACs."""
    with OpCounter(dry_run=True) as c:
        functional.linear(torch.ones(3, 4), nn.Parameter(torch.ones(4, 4).as_subclass(Plain))).sum().backward()
    assert c.by_phase()["forward"].macs == 48


def test_results_are_of_the_class_and_keep_what_a_program_sets() -> None:
    with OpCounter(dry_run=True):
        one = torch.randn(3, 4).as_subclass(Plain)
        one.format = "xyxy"
        assert isinstance(one * 2, Plain)
        assert isinstance((one + torch.ones(3, 4).as_subclass(Plain)).view(-1), Plain)
        assert not isinstance(one.as_subclass(Tensor), Plain)
        assert one.mul_(2) is one
        assert (one.format, one.t_().shape) == ("xyxy", (4, 3))
    assert Tensor.as_subclass is torch._C.TensorBase.as_subclass
    assert type(torch.ones(2).as_subclass(Plain)) is Plain


class Runs(Tensor):
    """Subclass that runs operators itself."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs or {})


@pytest.mark.parametrize(
    "ask",
    [lambda x: x.as_subclass(Runs), lambda x: x.as_subclass(Plain).numpy(), lambda x: x.as_subclass(Plain).item()],
)
def test_what_no_fake_tensor_can_stand_for_is_refused_also_when_the_error_is_caught(
    ask: Callable[[Tensor], object],
) -> None:
    def swallow() -> None:
        try:
            ask(LINEAR(torch.randn(1, 4)).detach()[0, 0])
        except RuntimeError:
            LINEAR(torch.ones(1, 4))

    with pytest.raises(DryRunError, match="dry_run=False"):
        counted(swallow, dry=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, for forward derivatives
@pytest.mark.parametrize("cls", [Tensor, Plain])
def test_libraries_find_the_package_of_a_tensor_as_in_a_real_run(cls: type[Tensor]) -> None:
    """By it opt_einsum and others choose functions; of another package, they take those of NumPy."""
    found: list[list[str]] = []

    def look() -> None:
        x = torch.randn(3, 4).as_subclass(cls)
        out, tangent = torch.func.jvp(LINEAR, (torch.ones(3, 4),), (torch.zeros(3, 4),))
        found.append([type(each).__module__.partition(".")[0] for each in (x, LINEAR(x), x[0], out, tangent)])

    for dry in (False, True):
        counted(look, dry=dry)
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("back", [True, False])
def test_a_tensor_that_a_transform_wraps_is_no_fake_one(kind: type[Tensor], back: bool) -> None:
    """``3 * 4 * 4`` MACs, and as many in backward; what is asked of the tensor is asked of the wrapper."""
    for dry in (False, True):
        with OpCounter(dry_run=dry) as counter:
            x = torch.randn(3, 4)

            def loss(weight: Tensor, x: Tensor = x) -> Tensor:
                out = functional.linear(x.as_subclass(kind), weight).tanh()
                out = out.as_subclass(Tensor) if back else out
                assert (out.device.type, out.dtype, out.shape) == ("cpu", torch.float, (3, 4))
                return out.relu().sum().as_subclass(Tensor)

            torch.func.grad(loss)(torch.randn(4, 4))
        assert {phase: total.macs for phase, total in counter.by_phase().items()} == {"forward": 48, "backward": 48}


def test_the_state_of_the_generator_can_be_read_in_a_transform() -> None:
    states = []
    for dry in (False, True):
        torch.manual_seed(0)
        with OpCounter(dry_run=dry):
            x = torch.randn(3000)
            torch.func.grad(lambda x: (states.append(torch.get_rng_state()), x.sum())[1])(x)
    assert torch.equal(*states)
