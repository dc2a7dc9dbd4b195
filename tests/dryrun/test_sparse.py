"""Sparse tensors in a dry run: as many products as a real run makes, or a refusal; never a silent other number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from opcount import OpCounter
from opcount.errors import DryRunError

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE = torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 3], [4, 0, 0, 0], [0, 5, 0, 6]])
LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "coo": DENSE.to_sparse,
    "csr": DENSE.to_sparse_csr,
    "csc": DENSE.to_sparse_csc,
    "bsr": lambda: DENSE.to_sparse_bsr((2, 2)),
    "bsc": lambda: DENSE.to_sparse_bsc((2, 2)),
}

PROGRAMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "@": lambda a, x: a @ x,
    "sparse.mm": torch.sparse.mm,
    "addmm": lambda a, x: torch.sparse.addmm(torch.zeros(4, 3), a, x),
    "transposed": lambda a, x: a.t() @ x,
    "scaled": lambda a, x: (a * 2) @ x,
    "of sparse": lambda a, x: torch.sparse.mm(a, a).to_dense() @ x,
    "made dense": lambda a, x: a.to_dense() @ x,
}


def outcome(program: Callable[[Tensor, Tensor], Any], a: Tensor, *, dry: bool, train: bool) -> Any:
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    model.register_buffer("a", a)
    try:
        with torch.set_grad_enabled(train), OpCounter(model, dry_run=dry) as c:
            out = program(model.a, model(torch.randn(4, 2)))
            if train:
                out.sum().backward()
    except Exception as error:  # noqa: BLE001  (the kind is what is compared)
        return type(error)
    return sorted((str(r.key), r.calls, str(r.cost)) for r in c.profile.records if r.family != "free")


@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC|BSR|BSC) tensor support is in beta")
@pytest.mark.parametrize("train", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_buffer_of_any_layout_counts_as_in_a_real_run(program: str, layout: str, train: bool) -> None:
    real = outcome(PROGRAMS[program], LAYOUTS[layout](), dry=False, train=train)
    dry = outcome(PROGRAMS[program], LAYOUTS[layout](), dry=True, train=train)
    if isinstance(real, type):
        return  # this build of PyTorch has no such product
    assert dry in (real, DryRunError)
    assert dry != DryRunError or program in ("of sparse", "scaled") or train


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_tensor_made_inside_counts_what_it_stores_or_is_refused(layout: str) -> None:
    def program(_: Tensor, x: Tensor) -> Tensor:
        a = torch.sparse_coo_tensor(torch.tensor([[0, 1], [1, 3]]), torch.randn(2), (4, 4))
        return (a if layout == "coo" else a.to_sparse_csr()) @ x

    real = outcome(program, DENSE, dry=False, train=True)
    assert outcome(program, DENSE, dry=True, train=True) in (real, DryRunError)


def test_sparse_gradients_are_stepped_as_in_a_real_run_or_refused() -> None:
    counts = []
    for dry in (False, True):
        model = nn.Embedding(5, 2, sparse=True)
        optimizer = torch.optim.SparseAdam(model.parameters())
        try:
            with OpCounter(model, dry_run=dry) as c:
                model(torch.tensor([1, 2, 2])).sum().backward()
                optimizer.step()
            counts.append(c.by_phase()["optimizer"].arith)
        except DryRunError:
            counts.append(DryRunError)
    assert counts[1] in (counts[0], DryRunError)
