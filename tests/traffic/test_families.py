"""Families whose operators move other bytes than the rule says, against their definitions and naive loops."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812  (as everybody calls it)
from torch.nn.attention import SDPBackend, sdpa_kernel

from opcount import OpCounter
from opcount.traffic import traffic_of
from tests.traffic.touching import Memory, traffic

E = 4
"""Bytes of a float32."""

CONV_BACKWARD = "aten.convolution_backward.default"


def conv(x, w, **options):
    return F.conv2d(x, w, padding=1, **options)


@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(3, 4))
def test_a_convolution_touches_what_naive_loops_touch(batch, c_in, c_out, size):
    x, w = torch.ones(batch, c_in, size, size), torch.ones(c_out, c_in, 3, 3)
    out = conv(x, w)
    memory = Memory()
    image, kernel, target = map(memory.of, (x, w, out))
    for n, o, i, j in target.indices():
        for c, p, q in torch.cartesian_prod(torch.arange(c_in), torch.arange(3), torch.arange(3)).tolist():
            if 0 <= i + p - 1 < size and 0 <= j + q - 1 < size:
                image.get(n, c, i + p - 1, j + q - 1)
            kernel.get(o, c, p, q)
        target.set(n, o, i, j)
    assert traffic("aten.convolution.default", lambda: conv(x, w)) == memory.bytes()
    bias = torch.ones(c_out)
    read, written = memory.bytes()
    assert traffic("aten.convolution.default", lambda: conv(x, w, bias=bias)) == (read + bias.nbytes, written)


@pytest.mark.parametrize("for_input", [False, True])
@pytest.mark.parametrize("for_weight", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_convolution_backward_moves_what_is_asked_for(for_input, for_weight, dry_run):
    x = torch.ones(2, 3, 4, 4, requires_grad=for_input)
    w = torch.ones(5, 3, 3, 3, requires_grad=for_weight)
    bias = torch.ones(5, requires_grad=True)
    dy = 2 * 5 * 16 * E
    expected = (
        dy + for_input * w.nbytes + for_weight * x.nbytes,
        bias.nbytes + for_input * x.nbytes + for_weight * w.nbytes,
    )
    run = lambda: conv(x, w, bias=bias).square().sum().backward()
    assert traffic(CONV_BACKWARD, run, dry_run=dry_run) == expected


B, H, KV, L, S, D = 2, 4, 2, 8, 16, 16
QUERIES, OUT, SUMS = B * H * L * D * E, B * H * L * D * E, B * H * L * 4


def attend(**options):
    q = torch.ones(B, H, L, D, requires_grad=True)
    k, v = (torch.ones(B, KV, S, D, requires_grad=True) for _ in range(2))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)


def expanded():
    """Attend with key heads that are expanded to all query heads: they are read once."""
    q = torch.ones(B, H, L, D, requires_grad=True)
    k, v = (torch.ones(B, 1, S, D, requires_grad=True).expand(B, H, S, D) for _ in range(2))
    return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("dry_run", [False, True])
def test_fused_attention_reads_each_head_once_and_keeps_one_sum_for_each_query(dry_run):
    forward = "aten._scaled_dot_product_flash_attention_for_cpu.default"
    backward = "aten._scaled_dot_product_flash_attention_for_cpu_backward.default"
    single = B * S * D * E
    assert traffic(forward, expanded, dry_run=dry_run) == (QUERIES + 2 * single, OUT + SUMS)
    assert traffic(backward, lambda: expanded().sum().backward(), dry_run=dry_run) == (
        4 + QUERIES + 2 * single + OUT + SUMS,  # a sum's gradient is one number, expanded
        QUERIES + 2 * B * H * S * D * E,
    )
    mask = torch.zeros(L, S)
    q = torch.ones(B, H, L, D)
    k = torch.ones(B, H, S, D)
    run = lambda: F.scaled_dot_product_attention(q, k, k, attn_mask=mask)
    read, written = traffic(forward, run, dry_run=dry_run)
    assert read == QUERIES + B * H * S * D * E + L * S * E  # one tensor is keys and values
    assert written == OUT + SUMS


META = {"device": "meta"}
FORWARDS = {
    "_scaled_dot_product_flash_attention": lambda q, k, v: (q, k, v),
    "_scaled_dot_product_efficient_attention": lambda q, k, v: (q, k, v, None, True),
    "_scaled_dot_product_cudnn_attention": lambda q, k, v: (q, k, v, None, True),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_the_kernels_of_cuda_move_the_same(name):
    q, k, v = torch.ones(B, H, L, D, **META), torch.ones(B, H, S, D, **META), torch.ones(B, H, S, D, **META)
    keys = B * H * S * D * E
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        pytest.skip("this PyTorch has no such operator")
    with OpCounter() as c:
        out, sums, *_ = packet(*FORWARDS[name](q, k, v))
    assert (c.bytes_read, c.bytes_written) == (QUERIES + 2 * keys, OUT + SUMS)
    operator = getattr(torch.ops.aten, f"{name}_backward").default
    arguments = {
        "grad_out": out.clone(),
        "grad_out_": out.clone(),
        "query": q,
        "key": k,
        "value": v,
        "out": out,
        "logsumexp": sums,
    }
    given_ = [arguments.get(a.name, [True] * 3 + [False]) for a in operator._schema.arguments if not a.kwarg_only]
    results = (q, k, v) if len(operator._schema.returns) == 3 else (q, k, v, None)
    given_ = [
        None if value == [True] * 3 + [False] and a.name != "grad_input_mask" else value
        for value, a in zip(given_, operator._schema.arguments, strict=False)
    ]
    assert traffic_of(operator)(results, given_, {}) == (2 * OUT + QUERIES + 2 * keys + SUMS, QUERIES + 2 * keys)


def test_without_a_backward_no_sums_are_kept():
    q = torch.ones(B, H, L, D, **META)
    with OpCounter() as c:
        torch.ops.aten._scaled_dot_product_efficient_attention(q, q, q, None, False)
    assert (c.bytes_read, c.bytes_written) == (QUERIES, OUT)


def test_attention_by_single_products_moves_the_scores_each_time():
    q, k, v = torch.ones(B, H, L, D), torch.ones(B, H, S, D), torch.ones(B, H, S, D)
    scores, keys = B * H * L * S * E, B * H * S * D * E
    with sdpa_kernel(SDPBackend.MATH), OpCounter() as c:
        F.scaled_dot_product_attention(q, k, v)
    rows = {r.operator: (r.bytes_read, r.bytes_written) for r in c.profile.records if r.bytes_read}
    assert rows["aten.bmm.default"] == (QUERIES + keys + scores + keys, scores + OUT)
    assert next(moved for name, moved in rows.items() if "softmax" in name) == (scores, scores)
    assert c.bytes_read + c.bytes_written > 4 * scores


NORMED, WIDTH, ROWS = 2 * 3 * 8 * E, 8 * E, 2 * 3 * E


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_norm_and_its_backward(dry_run, frozen):
    norm = nn.LayerNorm(8).requires_grad_(not frozen)
    x = torch.ones(2, 3, 8, requires_grad=True)
    run = lambda: norm(x).sum().backward()
    assert traffic("aten.native_layer_norm.default", run, model=norm, dry_run=dry_run) == (
        NORMED + 2 * WIDTH,
        NORMED + 2 * ROWS,
    )
    assert traffic("aten.native_layer_norm_backward.default", run, model=norm, dry_run=dry_run) == (
        4 + NORMED + 2 * ROWS + WIDTH,  # not the bias
        NORMED + (0 if frozen else 2 * WIDTH),
    )


IMAGE, CHANNELS = 2 * 3 * 16 * E, 3 * E


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_and_its_backward(dry_run, training):
    norm = nn.BatchNorm2d(3).train(training)
    norm.num_batches_tracked = None
    x = torch.ones(2, 3, 4, 4, requires_grad=True)
    run = lambda: norm(x).sum().backward()
    forward = "aten.native_batch_norm.default"
    written = IMAGE + (4 * CHANNELS if training else 0)  # the batch's and the running statistics
    assert traffic(forward, run, model=norm, dry_run=dry_run) == (IMAGE + 4 * CHANNELS, written)
    assert traffic("aten.native_batch_norm_backward.default", run, model=norm, dry_run=dry_run) == (
        4 + IMAGE + 3 * CHANNELS,
        IMAGE + 2 * CHANNELS,
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_an_embedding_reads_the_rows_that_are_looked_up(words):
    table, indices = torch.ones(4, 5), torch.tensor(words)
    out = table[indices]
    memory = Memory()
    rows, target = memory.of(table), memory.of(out)
    for i, word in enumerate(words):
        for j in range(5):
            rows.get(word, j)
            target.set(i, j)
    read, written = memory.bytes()
    found, wrote = traffic("aten.embedding.default", lambda: F.embedding(indices, table))
    assert wrote == written
    assert indices.nbytes + read <= found <= indices.nbytes + table.nbytes  # repeats are read again, up to all
    if len(set(words)) == len(words):
        assert found == indices.nbytes + read
    assert traffic("aten.index_select.default", lambda: table.index_select(0, indices)) == (found, wrote)
    assert traffic("aten.index.Tensor", lambda: table[indices]) == (found, wrote)
    wide = indices[:, None].expand(-1, 5)
    assert traffic("aten.gather.default", lambda: table.gather(0, wide)) == (found, wrote)  # an expanded index once


def test_one_token_does_not_read_the_whole_table():
    table = torch.ones(50_000, 64, **META)
    token = torch.ones(1, 1, dtype=torch.int64, **META)
    assert traffic("aten.embedding.default", lambda: F.embedding(token, table)) == (8 + 64 * E, 64 * E)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_backward_of_an_embedding_writes_the_table_or_its_rows(sparse):
    table = torch.ones(7, 5, requires_grad=True)
    indices = torch.tensor([1, 2])
    run = lambda: F.embedding(indices, table, sparse=sparse).mul(1).sum().backward()
    operator = "aten.embedding_sparse_backward.default" if sparse else "aten.embedding_dense_backward.default"
    with OpCounter() as c:
        run()
    rows = [r for r in c.profile.records if r.operator == operator]
    if sparse and not rows:  # a composite operator, of others
        assert c.bytes_written < 2 * table.nbytes + 200
        return
    assert (rows[0].bytes_read, rows[0].bytes_written) == (2 * 5 * E + 16, 2 * (8 + 5 * E) if sparse else 7 * 5 * E)


X, INDEX, SOURCE = 6 * 4 * E, 2 * 8, 2 * 4 * E

WRITES = {
    "aten.index_add_.default": (lambda x, i, s: x.index_add_(0, i, s), INDEX + 2 * SOURCE, SOURCE),
    "aten.index_copy_.default": (lambda x, i, s: x.index_copy_(0, i, s), INDEX + SOURCE, SOURCE),
    "aten.index_fill_.int_Scalar": (lambda x, i, _: x.index_fill_(0, i, 0.0), INDEX, SOURCE),
    "aten.index_put_.default": (lambda x, i, s: x.index_put_((i,), s), INDEX + SOURCE, SOURCE),
    "aten.scatter_.src": (lambda x, i, s: x.scatter_(0, i[:, None].expand(2, 4), s), INDEX + SOURCE, SOURCE),
    "aten.scatter_.value": (lambda x, i, _: x.scatter_(0, i[:, None].expand(2, 4), 0.0), INDEX, SOURCE),
    "aten.scatter_add_.default": (
        lambda x, i, s: x.scatter_add_(0, i[:, None].expand(2, 4), s), INDEX + 2 * SOURCE, SOURCE,
    ),
    "aten.scatter_reduce_.two": (
        lambda x, i, s: x.scatter_reduce_(0, i[:, None].expand(2, 4), s, "amax"), INDEX + 2 * SOURCE, SOURCE,
    ),
    "aten.scatter.src": (lambda x, i, s: x.scatter(0, i[:, None].expand(2, 4), s), X + INDEX + SOURCE, X),
    "aten.index_add.default": (lambda x, i, s: x.index_add(0, i, s), X + INDEX + SOURCE, X),
    "aten.put_.default": (lambda x, i, s: x.put_(i, s[:, 0]), INDEX + 8, 8),
}  # fmt: skip


@pytest.mark.parametrize("operator", WRITES)
@pytest.mark.parametrize("dry_run", [False, True])
def test_writes_by_index_touch_the_elements_that_are_pointed_at(operator, dry_run):
    write, read, written = WRITES[operator]
    run = lambda: write(torch.ones(6, 4), torch.tensor([1, 3]), torch.ones(2, 4))
    assert traffic(operator, run, dry_run=dry_run) == (read, written)


def test_values_that_are_added_by_index_are_read_where_they_go():
    x, i, j, values = torch.ones(6, 4, 3), torch.tensor([[1], [3]]), torch.tensor([0, 1, 2]), torch.tensor(1.0)
    elements = 2 * 3 * 3 * E
    run = lambda: x.index_put_((i, j), values, accumulate=True)
    assert traffic("aten.index_put_.default", run) == (2 * 8 + 3 * 8 + E + elements, elements)


def test_a_loss_reads_one_number_of_each_row():
    scores, labels = torch.ones(5, 1000, requires_grad=True), torch.ones(5, dtype=torch.int64)
    run = lambda: F.nll_loss(scores, labels).backward()
    assert traffic("aten.nll_loss_forward.default", run) == (5 * 8 + 5 * E, 2 * E)
    assert traffic("aten.nll_loss_backward.default", run) == (E + 5 * 8 + E, 5 * 1000 * E)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_recurrent_layer_reads_its_weights_once(dry_run):
    layer = nn.LSTM(4, 6)
    weights, x, y, state = 4 * 6 * (4 + 6 + 2) * E, 5 * 3 * 4 * E, 5 * 3 * 6 * E, 3 * 6 * E
    run = lambda: layer(torch.ones(5, 3, 4))
    with torch.no_grad():
        found = traffic("aten.mkldnn_rnn_layer.default", run, model=layer, dry_run=dry_run)
    assert found == (x + weights + 2 * state, y + 2 * state)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("outside", [False, True])
def test_a_recurrent_layer_trains_with_the_same_traffic_dry_and_real(kind, options, outside):
    layer, x = kind(4, 6, **options), torch.ones(5, 3, 4)
    made = (lambda: layer) if outside else lambda: kind(4, 6, **options)
    counts = []
    for dry_run in (True, False):
        with OpCounter(dry_run=dry_run) as c:
            made()(x)[0].sum().backward()
        layer.zero_grad()
        counts.append({r.key: (r.bytes_read, r.bytes_written) for r in c.profile.records})
    assert counts[0] == counts[1]


PARAMETERS = 3 * 5 + 5


def step(optimizer, **options):
    model = nn.Linear(3, 5)
    chosen = optimizer(model.parameters(), **options)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    chosen.step()
    return model, chosen


OPTIMIZERS = {
    "Adam": (torch.optim.Adam, {}, "aten._fused_adam_.default", 16, 12),
    "AdamW": (torch.optim.AdamW, {}, "aten._fused_adamw_.default", 16, 12),
    "Adam with amsgrad": (torch.optim.Adam, {"amsgrad": True}, "aten._fused_adam_.default", 20, 16),
    "SGD": (torch.optim.SGD, {}, "aten._fused_sgd_.default", 8, 4),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9}, "aten._fused_sgd_.default", 12, 8),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_fused_optimizer_moves_so_many_bytes_for_each_parameter(name, dry_run):
    optimizer, options, operator, read, written = OPTIMIZERS[name]
    model, chosen = step(optimizer, fused=True, **options)  # the first step makes the state
    assert traffic(operator, chosen.step, model=model if dry_run else None, dry_run=dry_run) == (
        read * PARAMETERS,
        written * PARAMETERS,
    )


def test_gradients_that_a_scale_divides_are_written_too():
    p, g, m, v = ([torch.ones(5)] for _ in range(4))
    steps, scale = [torch.ones(())], torch.ones(())
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False}
    with OpCounter() as c:
        torch._fused_adam_(p, g, m, v, [], steps, maximize=False, grad_scale=scale, found_inf=scale, **options)
    assert (c.bytes_read, c.bytes_written) == (4 * 20, 4 * 20)


MODES = {
    "grad": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
PROGRAMS = {
    "linear": lambda: nn.Linear(3, 5)(torch.ones(2, 7, 3)),
    "matmul": lambda: torch.ones(2, 3, 4) @ torch.ones(4, 5),
    "convolution": lambda: nn.Conv2d(3, 4, 3, padding=1)(torch.ones(1, 3, 5, 5)),
    "layer norm": lambda: nn.LayerNorm(5)(torch.ones(2, 5)),
    "batch norm": lambda: nn.BatchNorm1d(5)(torch.ones(2, 5)),
    "attention": lambda: F.scaled_dot_product_attention(*torch.ones(3, 1, 2, 4, 8)),
    "softmax": lambda: torch.ones(3, 4).softmax(-1),
    "loss": lambda: F.cross_entropy(torch.ones(3, 4), torch.tensor([0, 1, 2])),
    "einsum": lambda: torch.einsum("bij,bjk->bik", torch.ones(2, 3, 4), torch.ones(2, 4, 5)),
    "in place": lambda: torch.ones(3).add_(1).relu_(),
    "indexing": lambda: torch.ones(5, 3)[torch.tensor([1, 2])],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_grad_modes_and_dry_runs_count_the_same_traffic(name):
    counts = {}
    for mode, enter in MODES.items():
        for dry_run in (False, True):
            with enter(), OpCounter(dry_run=dry_run) as c:
                PROGRAMS[name]()
            counts[mode, dry_run] = (c.bytes_read, c.bytes_written)
    assert len(set(counts.values())) == 1, counts
    assert min(counts["grad", False]) > 0


@pytest.mark.parametrize("ends", [[1, 2, 2, 2], [0, 0, 1, 2], [1, 2, 3, 5]])
@pytest.mark.parametrize("dry_run", [False, True])
def test_experts_that_no_row_reaches_are_not_read(ends, dry_run):
    rows, groups, k, n = ends[-1], len(ends), 16, 8
    a, b = torch.ones(rows, k).bfloat16(), torch.ones(groups, k, n).bfloat16()
    offsets = torch.tensor(ends, dtype=torch.int32)
    memory = Memory()
    taken, weights, target = map(memory.of, (a, b, torch.ones(rows, n).bfloat16()))
    for row in range(rows):
        for i, j in torch.cartesian_prod(torch.arange(k), torch.arange(n)).tolist():
            taken.get(row, i)
            weights.get(min(row, groups - 1), i, j)  # each row goes to another expert, while there are any
            target.set(row, j)
    read, written = memory.bytes()
    run = lambda: F.grouped_mm(a, b, offs=offsets)
    assert traffic("aten._grouped_mm.default", run, dry_run=dry_run) == (read + offsets.nbytes, written)


def test_the_gradient_of_experts_reads_rows_and_writes_each_expert():
    a, b = torch.ones(2, 16).bfloat16(), torch.ones(4, 16, 8).bfloat16().requires_grad_()
    offsets = torch.tensor([1, 2, 2, 2], dtype=torch.int32)
    dy = torch.ones(2, 8).bfloat16()
    run = lambda: F.grouped_mm(a, b, offs=offsets).backward(dy)
    forward = (a.nbytes + 2 * 16 * 8 * 2 + offsets.nbytes, dy.nbytes)
    backward = (a.nbytes + dy.nbytes + offsets.nbytes, b.nbytes)
    expected = tuple(map(sum, zip(forward, backward, strict=True)))
    assert traffic("aten._grouped_mm.default", run) == expected
