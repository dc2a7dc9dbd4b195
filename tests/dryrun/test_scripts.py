"""A dry run is none of the runs after which TorchScript fuses operators: later real runs are as without it."""

from __future__ import annotations

from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

TEXT = """
def products(x, w):
    for i in range(2):
        x = torch.tanh(torch.matmul(x, w))
    return x
"""


def script() -> Callable[[Tensor, Tensor], Tensor]:
    """Return a script function that nothing has run."""
    return torch.jit.CompilationUnit(TEXT).products  # type: ignore[no-any-return]


class Products(nn.Module):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        for _ in range(2):
            x = torch.tanh(torch.matmul(x, w))
        return x


def scripted_module() -> Callable[[Tensor, Tensor], Tensor]:
    """Return a script module that nothing has run."""
    return torch.jit.script(Products())  # type: ignore[no-any-return]


def gradients(function: Callable[[Tensor, Tensor], Tensor], *, cast: bool = False) -> list[Tensor]:
    """Return the gradients of two calls."""
    torch.manual_seed(0)
    x, w = torch.randn(6, 8), torch.randn(8, 8, requires_grad=True)
    found: list[Tensor] = []
    for _ in range(2):
        w.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            out = function(x, w) + function(x, w)
        out.float().square().sum().backward()
        assert w.grad is not None
        found.append(w.grad)
    return found


@pytest.mark.parametrize("cast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("make", [script, scripted_module], ids=["function", "module"])
def test_a_script_runs_for_the_first_time_after_a_dry_run_of_a_new_process(
    forked: Any, make: Callable[[], Callable[[Tensor, Tensor], Tensor]], cast: bool
) -> None:
    """Scripts that ran before decide how TorchScript rewrites those that come."""
    quiet = "import warnings; warnings.simplefilter('ignore')"
    done = forked(f"{quiet}\nfrom tests.dryrun import test_scripts as t\nt.check_first_run(t.{make.__name__}, {cast})")
    assert done.returncode == 0, done.stderr


def check_first_run(make: Callable[[], Callable[[Tensor, Tensor], Tensor]], cast: bool) -> None:
    """Check that a script which a dry run ran first trains as one that it did not."""
    one = make()
    with OpCounter(dry_run=True) as c:
        gradients(one, cast=cast)
    assert c.macs == 2 * 2 * (2 * 6 * 8 * 8 + (1 + 2) * 6 * 8 * 8)  # the gradient of x itself is not asked for
    torch.jit._recursive.concrete_type_store.type_store.clear()  # or the modules share what was compiled
    assert all(map(torch.equal, gradients(one, cast=cast), gradients(make(), cast=cast)))


def test_a_thread_of_a_dry_run_profiles_no_script() -> None:
    one, other = script(), script()
    with OpCounter(dry_run=True):
        thread = Thread(target=gradients, args=(one,))
        thread.start()
        thread.join()
    assert all(map(torch.equal, gradients(one), gradients(other)))


def test_the_setting_is_put_back() -> None:
    for before in (True, False):
        with torch.jit.optimized_execution(before):  # type: ignore[attr-defined]
            with OpCounter(dry_run=True):
                assert not torch._C._get_graph_executor_optimize()
            assert torch._C._get_graph_executor_optimize() == before


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 2)).eval()


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(
    "rewrite",
    [
        lambda model, _: torch.jit.script(model),
        lambda model, _: torch.jit.freeze(torch.jit.script(model)),
        lambda model, x: torch.jit.freeze(torch.jit.trace(model, x, check_trace=False)),
        lambda model, _: torch.jit.freeze(torch.jit.script(model), optimize_numerics=False),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_module_that_is_scripted_and_frozen_inside_counts_as_for_real(rewrite: Any, gradients: bool) -> None:
    x, counts = torch.randn(2, 3, 4, 4), []
    for dry in (False, True):
        model = convolutions()
        with torch.set_grad_enabled(gradients), OpCounter(model, dry_run=dry) as counter:
            rewrite(model, x)(x)
        counts.append({name: (total.calls, total.macs) for name, total in counter.by_operator().items() if total.macs})
    assert counts[0] == counts[1]
    assert counter.macs >= 2 * (8 * 27 * 4 + 32 * 2)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_saving_a_script_is_refused_and_leaves_no_file(frozen: bool, tmp_path: Path) -> None:
    """C++ reads the memory of parameters, of which there is none: the process would crash."""
    model, x, file = convolutions(), torch.randn(2, 3, 4, 4), tmp_path / "model.pt"

    def save(target: object) -> None:
        with OpCounter(model, dry_run=True):
            traced = torch.jit.trace(model, x, check_trace=False)
            torch.jit.save(torch.jit.freeze(traced) if frozen else traced, target)

    for target in (file, str(file), BytesIO()):
        with pytest.raises(DryRunError, match=r"torch\.jit\.save .* reads tensors"):
            save(target)
    assert not file.exists()
    with OpCounter(model):
        torch.jit.save(torch.jit.trace(model, x), file)
    torch.testing.assert_close(torch.jit.load(file)(x), model(x))
