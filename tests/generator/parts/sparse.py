"""Matrices that store some of their elements: buffers, weights, made in the middle; in every layout, on either side."""

from __future__ import annotations

from tests.generator.block import Part
from tests.generator.parts import part


@part()
def sparse(grow):
    """A matrix that stores some of its elements, made before the model runs or in the middle of it."""
    draw, e, name = grow.draw, grow.draw.e, grow.draw.name("graph")
    random, places = f"(torch.rand({e}, {e}) > 0.6).float()", f"torch.randint({e}, (2, {2 * e}))"
    made, inside = draw.pick(
        [
            (f"{random}.to_sparse()", "{}"),
            (f"{random}.to_sparse_csr()", "{}"),
            (f"{random}.to_sparse_csc()", "{}"),
            (f"{random}.to_sparse_bsr((2, 2))", "{}"),
            (random, "{}.to_sparse()"),
            (f"torch.eye({e}).roll(1, 0)", "({} * torch.arange(1.0, 3)[:1]).to_sparse_csr()"),
            (places, f"torch.sparse_coo_tensor({{}}, x.reshape(-1, {e})[0].repeat(2), ({e}, {e}))"),
            (places, f"torch.sparse_coo_tensor({{}}, torch.ones({2 * e}), ({e}, {e})).coalesce()"),
            (f"torch.arange({e + 1})", f"torch.sparse_csr_tensor({{0}}, {{0}}[1:] - 1, x.detach().flatten()[:{e}])"),
        ]
    )
    graph = inside.format(f"self.{name}")
    return Part(
        init=[f"self.register_buffer('{name}', {made}, persistent=False)"],
        forward=[f"x = ({graph} @ x.reshape(-1, {e}).t()).t().reshape(x.shape)"],
        traits={"no kernel", *(["random"] if "rand" in made else [])},
    )


@part()
def sparse_functions(grow):
    """Ways to multiply by a sparse matrix besides ``@``, of which the book knows nothing."""
    draw, e, name = grow.draw, grow.draw.e, grow.draw.name("graph")
    made = draw.pick(["to_sparse()", "to_sparse_csr()", "to_sparse_csc()", "to_sparse_bsr((2, 2))"])
    graph, rows = f"self.{name}", f"x.reshape(-1, {e})"
    product = draw.pick(
        [
            f"torch.sparse.mm({graph}, {rows}.t()).t()",
            f"torch.sparse.addmm({rows}.t(), {graph}, {rows}.t()).t()",
            f"torch.addmm({rows}.t(), {graph}, {rows}.t(), beta=0.5).t()",
            f"{rows} @ {graph}",
            f"F.linear({rows}, {graph})",
            f"({graph}.t() @ {rows}.t()).t()",
            f"({graph} @ {graph} @ {rows}.t()).t()",
            f"(({graph} * 2) @ {rows}.t()).t()",
            f"(({graph} + {graph}) @ {rows}.t()).t()",
            f"({graph}.to_dense() @ {rows}.t()).t()",
            f"{rows} * torch.mv({graph}, {rows}[0])",
            f"{rows} * torch.sparse.sum({graph}.to_sparse())",
            f"{rows} * torch.sparse.softmax({graph}.to_sparse(), 1).to_dense()[0]",
            f"torch.bmm(torch.stack([{graph}.to_sparse()] * x.shape[0]), x.mT).mT",
            f"torch.sparse.sampled_addmm({graph}, {rows}.t() @ {rows}, {graph}.to_dense()).to_dense()[0] + {rows}",
        ]
    )
    return Part(
        init=[f"self.register_buffer('{name}', (torch.rand({e}, {e}) > 0.6).float().{made}, persistent=False)"],
        forward=[f"x = ({product}).reshape(x.shape)"],
        traits={"random", "unbooked", "no kernel"},
    )


@part()
def sparse_weight(grow):
    """A weight whose gradient is sparse, or that is sparse itself."""
    draw, e, name = grow.draw, grow.draw.e, grow.draw.name("sparse")
    init, forward = draw.pick(
        [
            (f"nn.Embedding({draw.l}, {e}, sparse=True)", f"x + self.{name}(torch.arange({draw.l}))"),
            (f"nn.EmbeddingBag({draw.l}, {e}, sparse=True, mode='sum')", f"x + self.{name}(torch.tensor([[0, 1]]))"),
            (f"nn.Parameter(torch.eye({e}).to_sparse())", f"(self.{name} @ x.reshape(-1, {e}).t()).t().view(x.shape)"),
            (
                f"nn.Parameter(torch.eye({e}).to_sparse_csr())",
                f"torch.sparse.mm(self.{name}, x.reshape(-1, {e}).t()).t().view(x.shape)",
            ),
        ]
    )
    return Part(init=[f"self.{name} = {init}"], forward=[f"x = {forward}"], traits={"unbooked", "data", "no kernel"})
