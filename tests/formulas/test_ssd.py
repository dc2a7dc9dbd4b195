"""Scans by chunks and RWKV's, against loops that count, and against products that PyTorch runs."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from opcount import OpCounter
from opcount.errors import FormulaError
from tests.formulas.functions import backward, count, forward, stand_in, wanting
from tests.formulas.oracle import Meter, Number
from tests.shims import define_torchvision_operators

define_torchvision_operators()

CASES = [
    # batch, length, heads, head size, groups, state, chunk
    (2, 8, 4, 3, 2, 5, 4),
    (1, 7, 2, 4, 1, 3, 4),
    (1, 3, 2, 2, 2, 2, 8),
]


def arguments(b, l, h, p, g, n, q):  # noqa: E741
    torch.manual_seed(0)
    x, dt = torch.rand(b, l, h, p, dtype=torch.double), torch.rand(b, l, h, dtype=torch.double)
    a = -torch.rand(h, dtype=torch.double)
    into, out = torch.rand(2, b, l, g, n, dtype=torch.double)
    return x, dt, a, into, out, q


def by_steps(x, dt, a, b, c):
    """Run the recurrence that the chunks stand for."""
    b, c = (t.repeat_interleave(x.shape[2] // t.shape[2], 2) for t in (b, c))
    state, out = 0, []
    for t in range(x.shape[1]):
        state = state * (dt[:, t] * a).exp()[..., None, None]
        state = state + (dt[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None]
        out.append((state * c[:, t, :, None]).sum(-1))
    return torch.stack(out, 1)


def by_chunks(x, dt, a, b, c, chunk):
    """Run the chunks' products by einsum: scores for each group, then everything for each head."""
    share = x.shape[2] // b.shape[2]
    state, outs = torch.zeros(*x.shape[:1], *x.shape[2:], b.shape[-1], dtype=x.dtype), []
    for start in range(0, x.shape[1], chunk):
        xs, dts, bs, cs = (t[:, start : start + chunk] for t in (x, dt, b, c))
        decay = (dts * a).cumsum(1)
        scores = torch.einsum("blgn,bsgn->bgls", cs, bs).repeat_interleave(share, 1)
        fade = (decay[:, :, None] - decay[:, None]).exp().permute(0, 3, 1, 2).tril()
        mixed = torch.einsum("bhls,bshp->blhp", scores * fade * dts.transpose(1, 2)[:, :, None], xs)
        reading, writing = cs.repeat_interleave(share, 2), bs.repeat_interleave(share, 2)
        read = torch.einsum("blhn,bhpn->blhp", reading, state) * decay.exp()[..., None]
        weight = ((decay[:, -1:] - decay).exp() * dts)[..., None]
        state = state * decay[:, -1].exp()[..., None, None] + torch.einsum("bshn,bshp->bhpn", writing * weight, xs)
        outs.append(mixed + read)
    return torch.cat(outs, 1)


@pytest.mark.parametrize("case", CASES)
def test_a_scan_by_chunks_counts_its_products(case):
    args = arguments(*case)
    with OpCounter(strict=True) as counter:
        found = by_chunks(*args)
    assert torch.allclose(found, by_steps(*args[:-1]))
    cost = forward("MambaChunkScanCombinedFn", found, *args)
    assert (cost.macs, cost.activations) == (counter.macs, counter.activations)


def test_the_slow_path_of_transformers_counts_the_same_and_a_product_between_chunks():
    mamba2 = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    b, l, h, p, _, n, q = case = (2, 8, 4, 3, 4, 5, 4)  # noqa: E741  (as many groups as heads, whole chunks)
    x, dt, a, into, out, _ = arguments(*case)
    with OpCounter() as counter:
        found = mamba2.mamba2_chunk_scan(x, dt, a, into, out, q)
    assert torch.allclose(found.double(), by_steps(x, dt, a, into, out), atol=1e-5)
    states = l // q + 1  # the first one included
    passing = b * states**2 * h * p * n
    assert counter.macs == forward("MambaChunkScanCombinedFn", x, x, dt, a, into, out, q).macs + passing


def test_whole_chunks_follow_the_formula_of_the_paper():
    b, l, h, p, g, n, q = CASES[0]  # noqa: E741
    x, *rest = arguments(*CASES[0])
    cost = forward("MambaChunkScanCombinedFn", x, x, *rest)
    assert cost.macs == b * l * q * (g * n + h * p) + 2 * b * l * h * p * n


def test_the_backward_has_eleven_products_for_four():
    b, l, h, p, g, n, q = CASES[0]  # noqa: E741
    x, *rest = arguments(*CASES[0])
    scores, mixed, through = b * l * q * g * n, b * l * q * h * p, b * l * h * p * n
    # scores and states anew; two gradients of each of four products; dy @ x.T once more, for the steps
    expected = (scores + through) + 2 * (scores + mixed + 2 * through) + mixed
    assert backward("MambaChunkScanCombinedFn", x, x, *rest).macs == expected


def test_optional_parts_count_for_each_step_or_each_output():
    x, *rest = arguments(*CASES[0])
    plain = forward("MambaChunkScanCombinedFn", x, x, *rest)
    skip, gate, bias = torch.rand(4), torch.rand_like(x), torch.rand(4)
    full = forward("MambaChunkScanCombinedFn", x, x, *rest, skip, gate, bias, None, None, None, True)
    assert full.arith - plain.arith == 4 * x.numel() + 2 * x.numel() // x.shape[-1]
    older = forward("MambaChunkScanCombinedFn", x, x, *rest, skip, gate, bias, None, None, True)
    assert older == full  # version 2.0 has no cu_seqlens


def test_states_of_packed_sequences_are_refused():
    x, *rest = arguments(*CASES[0])
    with pytest.raises(FormulaError):
        forward("MambaChunkScanCombinedFn", x, x, *rest, None, None, None, None, None, torch.tensor([0, 3]))


@pytest.mark.parametrize("beside", [0, 6])
@pytest.mark.parametrize("skip_per_head", [True, False])
def test_a_layer_is_the_sum_of_its_parts(beside, skip_per_head):
    b, l, h, p, g, n, q = CASES[0]  # noqa: E741
    x, *rest = arguments(*CASES[0])
    inner, columns = h * p, h * p + 2 * g * n
    mixed = torch.rand(b, l, 2 * beside + inner + columns + h)
    conv, bias, out_proj = torch.rand(columns, 4), torch.rand(columns), torch.rand(9, inner + beside)
    skip = torch.rand(h) if skip_per_head else torch.rand(h, p)
    head = p if skip_per_head else None
    args = (mixed, conv, bias, torch.rand(h), torch.rand(h), skip, q, None, None, (0.0, 1.0), False, "silu")
    args = (*args, torch.rand(inner), 1e-6, out_proj, None, head, g, True)
    scan = forward("MambaChunkScanCombinedFn", x, x, *rest, skip, x, torch.rand(h), None, None, None, True)
    cost = forward("MambaSplitConv1dScanCombinedFn", mixed, *args)
    tokens = b * l
    assert cost.macs == scan.macs + tokens * (columns * 4 + 9 * (inner + beside))
    assert cost.arith == scan.arith + tokens * (2 * columns + 4 * inner + 2 * beside)
    scan_backward = backward("MambaChunkScanCombinedFn", x, x, *rest)
    expected = scan_backward.macs + tokens * (4 * columns * 4 + 2 * 9 * (inner + beside))
    assert backward("MambaSplitConv1dScanCombinedFn", mixed, *args).macs == expected


def receptance(b=1, t=3, h=2, n=4):
    return *torch.rand(4, b, t, h * n).unbind(), torch.rand(h, n)


@pytest.mark.parametrize("name", ["WKV_5", "WKV_6", "WKV"])
def test_a_state_of_rwkv_is_written_and_read_by_products(name):
    b, t, h, n = 1, 3, 2, 4
    r, k, v, w, u = receptance(b, t, h, n)
    macs, rest = Meter(), Meter()
    read, key, value = (macs.read(x.view(b, t, h, n)) for x in (r, k, v))
    bonus, decay = rest.read(u), rest.read(w.view(b, t, h, n))
    for i, head in product(range(b), range(h)):
        states = [[Number(0.0, macs)] * n for _ in range(n)]
        for step, j in product(range(t), range(n)):
            total = Number(0.0, macs)
            for m in range(n):
                written = key[i, step, head, m] * value[i, step, head, j]
                seen = bonus[head, m] * written.value + states[m][j].value
                total = total + read[i, step, head, m] * seen.value
                states[m][j] = Number((decay[i, step, head, m] * states[m][j].value).value, macs) + written
    elements = b * t * h * n
    cost = forward(name, r, b, t, h * n, h, r, k, v, w, u)
    assert cost == (macs.products, rest.operations, elements)


def test_sizes_may_stand_in_the_shapes_alone():
    tensors = receptance()
    assert forward("WKV_6", None, *tensors) == forward("WKV_6", None, 1, 3, 8, 2, *tensors)


def test_a_gradient_of_rwkv_is_a_recurrence_and_a_product():
    tensors = receptance()
    sizes = (1, 3, 8, 2)
    once = forward("WKV_6", None, *sizes, *tensors)
    wanting(*tensors[:3])
    assert backward("WKV_6", None, *sizes, *tensors).macs == 3 * once.macs


@pytest.mark.parametrize("args", [(1, 3, 8, *torch.rand(4, 8)), tuple(torch.rand(4, 8))])
def test_a_recurrence_that_two_projects_have_under_one_name_is_refused(args):
    with pytest.raises(FormulaError):
        forward("WKV", None, *args)


def test_the_seventh_version_writes_its_state_twice_and_reads_it_twice():
    b, t, h, n = 1, 3, 2, 4
    w, q, k, v, z, c = torch.rand(6, b, t, h, n).unbind()
    macs, rest = Meter(), Meter()
    read = {name: macs.read(x) for name, x in {"q": q, "k": k, "v": v, "z": z, "b": c}.items()}
    for i, head in product(range(b), range(h)):
        states = [[Number(0.0, macs)] * n for _ in range(n)]
        for step in range(t):
            at = {name: x[i, step, head] for name, x in read.items()}
            decay = [x.apply(abs).apply(abs).apply(abs) for x in rest.read(w[i, step, head])]
            for row in range(n):
                mixed = total = Number(0.0, macs)
                for column in range(n):
                    mixed = mixed + states[row][column] * at["z"][column]
                for column in range(n):
                    kept = Number((decay[column] * states[row][column].value).value, macs)
                    states[row][column] = kept + mixed * at["b"][column] + at["v"][row] * at["k"][column]
                    total = total + states[row][column] * at["q"][column]
    assert forward("WindBackstepping", v, w, q, k, v, z, c) == (macs.products, rest.operations, v.numel())


def test_a_call_is_counted_forward_and_backward():
    x, dt, a, b, c, q = arguments(*CASES[0])
    wanting(x, dt, a, b, c)
    counter = count(stand_in("MambaChunkScanCombinedFn", lambda x, *_: x.shape, set(range(5))), x, dt, a, b, c, q)
    by = counter.by_operator()
    assert (
        by["autograd.MambaChunkScanCombinedFn"].macs == forward("MambaChunkScanCombinedFn", x, x, dt, a, b, c, q).macs
    )
    expected = backward("MambaChunkScanCombinedFn", x, x, dt, a, b, c, q)
    assert by["autograd.MambaChunkScanCombinedFnBackward"].macs == expected.macs
