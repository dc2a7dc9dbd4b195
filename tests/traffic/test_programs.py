"""Traffic of programs whose bytes are known by arithmetic, and of calls that other tools get wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from opcount import OpCounter
from tests.shims import define_torchvision_operators

N = 1000
ARRAY = N * 8
"""Bytes of one array of float64, as STREAM has them."""


def arrays(count: int) -> list[torch.Tensor]:
    return [torch.ones(N, dtype=torch.float64) for _ in range(count)]


def moved(program, *, model: nn.Module | None = None, **options) -> tuple[int, int]:
    with OpCounter(model, **options) as c:
        program()
    return c.bytes_read, c.bytes_written


def test_stream_moves_two_and_three_arrays():
    a, b, c = arrays(3)
    assert moved(lambda: c.copy_(a)) == (ARRAY, ARRAY)
    assert moved(lambda: torch.mul(c, 3.0, out=b)) == (ARRAY, ARRAY)
    assert moved(lambda: torch.add(a, b, out=c)) == (2 * ARRAY, ARRAY)
    assert moved(lambda: torch.add(b, c, alpha=3.0, out=a)) == (2 * ARRAY, ARRAY)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_intensity_of_a_square_product_is_a_sixth_of_its_side_over_the_bytes_of_a_number(device):
    n = 64
    a, b = torch.empty(n, n, device=device), torch.empty(n, n, device=device)
    with OpCounter() as c:
        a @ b
    assert (c.bytes_read, c.bytes_written) == (2 * n * n * 4, n * n * 4)
    assert c.arithmetic_intensity == 2 * n**3 / (3 * n * n * 4) == n / 6
    assert c.total.traffic == 3 * n * n * 4
    assert c.by_operator()["aten.mm.default"].arithmetic_intensity == n / 6
    assert c.profile.arithmetic_intensity == n / 6


def test_what_only_adds_has_no_intensity_and_nothing_neither():
    a, b = arrays(2)
    with OpCounter() as c:
        assert c.arithmetic_intensity == 0
        a + b
    assert c.arithmetic_intensity == 0


LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, WORDS, CACHE = 2, 64, 96, 8, 2, 100, 24
WIDTH = HIDDEN // HEADS


@pytest.mark.slow
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_decode_step_of_a_llama_reads_its_matrices_once(dry_run):
    define_torchvision_operators()
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, vocab_size=WORDS, attn_implementation="sdpa", tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    keys = KV_HEADS * WIDTH
    products = [
        *LAYERS * [(HIDDEN, HIDDEN), (HIDDEN, keys), (HIDDEN, keys), (HIDDEN, HIDDEN)],
        *LAYERS * [(HIDDEN, INNER), (HIDDEN, INNER), (INNER, HIDDEN)],
        (HIDDEN, WORDS),
    ]
    prompt, token = torch.zeros(1, CACHE, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    with torch.no_grad(), OpCounter(model, dry_run=dry_run) as c:
        past = model(prompt, use_cache=True).past_key_values
        c.reset()
        model(token, past_key_values=past, use_cache=True)
    matmul = c.profile.select(lambda r: r.family == "matmul" and r.operator != "aten.bmm.default")
    rows = matmul.select(lambda r: bool(r.cost.macs) and "rotary" not in r.path)
    assert rows.bytes_read == 2 * sum(m * n + m for m, n in products)
    assert rows.bytes_written == 2 * sum(n for _, n in products)
    attention = c.profile.select(lambda r: r.family == "attention")
    cached = LAYERS * 2 * KV_HEADS * (CACHE + 1) * WIDTH  # keys and values, whose heads serve several queries
    assert attention.bytes_read == 2 * (cached + LAYERS * HIDDEN)
    embedding = c.profile.select(lambda r: r.operator == "aten.embedding.default")
    assert (embedding.bytes_read, embedding.bytes_written) == (8 + 2 * HIDDEN, 2 * HIDDEN)


def test_a_training_step_counts_the_same_dry_and_real_in_each_module_and_phase():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    x, labels = torch.ones(2, 3, 8, 8), torch.tensor([0, 1])

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    step()
    state = copy.deepcopy(model.state_dict())
    counts = []
    for dry_run in (True, False):
        with OpCounter(model, dry_run=dry_run) as c:
            step()
        counts.append({r.key: (r.calls, r.bytes_read, r.bytes_written) for r in c.profile.records})
        model.load_state_dict(state)
    assert counts[0] == counts[1]


def test_recomputed_operators_have_traffic_of_their_own():
    layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    x = torch.ones(4, 8, requires_grad=True)
    with OpCounter(layer) as c:
        torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum().backward()
    phases = c.by_phase()
    assert phases["recompute"].bytes_read > 0
    assert sum(p.bytes_read for p in phases.values()) <= c.bytes_read


def test_symbolic_sizes_count_the_traffic_of_the_sizes_at_hand():
    def program(x, w):
        return (x @ w + x[:, :1]).relu().sum(0)

    real = torch.ones(6, 5), torch.ones(5, 7)
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        fake = [mode.from_tensor(x, static_shapes=False) for x in real]
        with OpCounter() as c:
            program(*fake)
    assert (c.profile.bytes_read, c.profile.bytes_written) == moved(lambda: program(*real))


TABLE, TOKEN = 4 * 10 * 50_000, torch.tensor([3])

WRONG_ELSEWHERE = {
    "one token does not read the whole table": (
        lambda: nn.functional.embedding(TOKEN, torch.ones(50_000, 10)), (0, 8 + 40), (TABLE, 40)
    ),
    "a slice moves nothing": (lambda: torch.ones(4, 4)[:, :1], (0, 0), (64, 0)),
    "an alias moves nothing": (lambda: torch.ops.aten.alias(torch.ones(4)), (0, 0), (16, 0)),
    "a copy does not read its destination": (lambda: torch.ones(4).copy_(torch.ones(4)), (0, 16), (32, 16)),
    "multiplying a list in place writes it": (
        lambda: torch._foreach_mul_([torch.ones(4), torch.ones(2)], 2.0), (0, 24), (24, 24)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_ELSEWHERE)
def test_what_estimators_get_wrong(name):
    program, (_, read), (made, written) = WRONG_ELSEWHERE[name]
    assert moved(program) == (read, made + written)


def test_several_blocks_and_nested_counters_agree():
    with OpCounter() as outer:
        with OpCounter() as inner:
            torch.ones(3) + 1
        one = outer.bytes_read, outer.bytes_written
        assert one == (inner.bytes_read, inner.bytes_written) == (12, 24)
        with inner:
            torch.ones(3) + 1
    assert (inner.bytes_read, inner.bytes_written) == (outer.bytes_read, outer.bytes_written) == (24, 48)


def test_a_skipped_step_is_extrapolated():
    c = OpCounter(every=3)
    for _ in range(7):
        with c:
            torch.ones(3) + 1
    assert c.extrapolated().bytes_read == 7 * 12
    assert c.extrapolated().bytes_written == 7 * 24
