"""A formula may compute with the tensors that it is given: no counter around takes that for the program's."""

from __future__ import annotations

import pytest
import torch

from opcount import Cost, OpCounter


def calls(counter):
    return {(operator, total.calls, total.macs, total.arith) for operator, total in counter.by_operator().items()}


def sparse_products():
    matrix = torch.eye(6).to_sparse()
    return torch.sparse.mm(matrix, matrix), matrix @ torch.ones(6, 2), matrix * 2.0


def compressed_products():
    matrix = torch.eye(6).to_sparse_csr()
    return torch.sparse.mm(matrix, matrix), matrix @ torch.ones(6, 2)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("program", [sparse_products, compressed_products])
def test_counters_around_see_what_one_alone_sees(program):
    with OpCounter() as alone:
        program()
    with OpCounter() as outer, OpCounter() as inner:
        program()
    assert calls(outer) == calls(inner) == calls(alone)


def test_a_users_formula_computes_unseen():
    def price(out, x):
        return Cost(macs=int((x @ x).ne(0).sum()))

    with OpCounter() as outer, OpCounter(formulas={"aten::relu": price}) as inner:
        torch.relu(torch.ones(3, 3))
    assert inner.macs == 9
    assert calls(outer) == {("aten.relu.default", 1, 0, 9)}
