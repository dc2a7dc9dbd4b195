"""Whole training steps of real libraries, on one process and on several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from opcount import OpCounter
from opcount._torch.distributed import group_name
from tests import shims
from tests.features import needs
from tests.scope.ledger import ledger

ROOT = Path(__file__).resolve().parents[2]


def tokens(batch=2, length=6):
    return torch.randint(0, 50, (batch, length))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_transformer_with_gradient_checkpointing_and_adamw(reentrant):
    shims.install()
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2, attn_implementation="eager", use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    counts = {}
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": reentrant})
        optimizer = torch.optim.AdamW(model.parameters())
        batch = tokens()
        with OpCounter(model) as c:
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
        assert not c.coverage.unattributed
        counts[checkpointing] = c
    plain, again = counts[False], counts[True]
    for phase in ("forward", "backward"):
        assert ledger(plain, phases={phase}) == ledger(again, phases={phase})
    assert "recompute" not in plain.by_phase()
    recomputed = {path: macs for (path, _), macs in ledger(again, phases={"recompute"}).items()}
    forward = {path: macs for (path, _), macs in ledger(plain, phases={"forward"}).items() if ".h." in path}
    assert set(recomputed) <= set(forward)
    if reentrant:  # the other one stops as soon as it has what backward needs
        assert recomputed == forward
    assert again.by_phase()["optimizer"].arith == plain.by_phase()["optimizer"].arith == 2288 * 14 + 28


def test_a_timm_model_under_autocast_with_frozen_layers():
    shims.install()
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=12, num_heads=2, num_classes=5)
    for block in model.blocks[:1]:
        block.requires_grad_(False)
    model.patch_embed.requires_grad_(False)
    model.cls_token.requires_grad_(False)
    model.pos_embed.requires_grad_(False)
    with OpCounter(model) as c, torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 32, 32)).float().sum().backward()
    forward, backward = ledger(c, phases={"forward"}), ledger(c, phases={"backward"})
    assert not c.coverage.unattributed
    assert not [path for path, _ in backward if path.startswith(("blocks.0", "patch_embed"))]
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        path = f"blocks.1.{name}"
        # The input of the first product needs no gradient: nothing before it is trained, but for the norm's weights.
        assert backward[path, "backward"] == 2 * forward[path, "forward"]


_WORKER = """
import sys
import torch
from torch import nn
from opcount import OpCounter
from opcount._torch.distributed import group_name
from tests.scope.ledger import ledger
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(6, 8, bias=False)
    def forward(self, x):
        return self.b(self.a(x).tanh())

def step(model, x):
    with OpCounter(model) as c:
        model(x).sum().backward()
    assert not c.coverage.unattributed, c.coverage
    assert c.coverage.complete, c.coverage
    return ledger(c)

x = torch.ones(10, 4)
alone = step(Net(), x)
A, B = 10 * 4 * 6, 10 * 6 * 8
expected = {("a", "forward"): A, ("b", "forward"): B, ("a", "backward"): A, ("b", "backward"): 2 * B}
assert alone == expected, alone
"""

_DDP = (
    _WORKER
    + """
import torch.distributed as dist
import torch.multiprocessing as mp

def main(rank, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Net())
    local = step(model, x[rank * 5 : rank * 5 + 5])
    assert local == {key: macs // 2 for key, macs in alone.items()}, local
    both = torch.tensor([sum(local.values())])
    dist.all_reduce(both)
    assert both.item() == sum(alone.values())
    dist.destroy_process_group()

main(int(sys.argv[1]), sys.argv[2])
"""
)

_FAKE = (
    _WORKER
    + """
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
from torch.distributed.device_mesh import init_device_mesh
mesh = init_device_mesh("cpu", (2,))
"""
)

_FSDP = (
    _FAKE
    + """
from torch.distributed.fsdp import fully_shard
model = Net()
for layer in (model.a, model.b):
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
local = step(model, x)
assert local == expected, local  # every rank gathers the weights and computes its own batch in full
"""
)

_TENSOR_PARALLEL = (
    _FAKE
    + """
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
model = parallelize_module(Net(), mesh, {"a": ColwiseParallel(), "b": RowwiseParallel()})
local = step(model, x)
assert local == {key: macs // 2 for key, macs in expected.items()}, local  # each rank has half of every weight
"""
)


def run(script, *arguments):
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*processes):
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output


def test_ranks_of_data_parallel_training_add_up_to_one_process(tmp_path):
    finish(*(run(_DDP, str(rank), str(tmp_path / "store")) for rank in range(2)))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(_FSDP, id="sharded", marks=needs("torch.distributed.fsdp.fully_shard", "fully_shard on a CPU")),
        pytest.param(_TENSOR_PARALLEL, id="tensor parallel", marks=needs("torch.distributed.device_mesh")),
    ],
)
def test_a_rank_counts_what_it_computes(script):
    finish(run(script))


def test_a_step_in_a_loop_counts_the_same_every_time():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    counts = []
    for _ in range(3):
        with OpCounter(model) as c:
            optimizer.zero_grad()
            model(torch.ones(7, 2)).sum().backward()
            optimizer.step()
        counts.append(ledger(c))
    assert counts[1] == counts[2] == counts[0]


class Nameless:
    """A group that does not know its name, as those of the fake backend up to PyTorch 2.2."""

    @property
    def group_name(self):
        raise RuntimeError("ProcessGroup name not set")


def test_a_group_that_does_not_know_its_name_is_looked_up(monkeypatch):
    from torch.distributed.distributed_c10d import _world  # noqa: PLC0415  (not in every build)

    group = Nameless()
    assert not group_name(group)
    monkeypatch.setitem(_world.pg_names, group, "0")
    assert group_name(group) == "0"
