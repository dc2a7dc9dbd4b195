"""Train a Llama under tensor, pipeline and sharded data parallelism: plain ``torch.distributed``, one step.

    torchrun --nproc-per-node 8 ... scripts/examples/train_llama.py --config CONFIG.json --tp 8 --pp 16
    opcount run --world 8192 --rank 0 scripts/examples/train_llama.py --config CONFIG.json --tp 8 --pp 16

The configuration is that of the model's repository, ``config.json``; without one it is that of Llama-3.1-405B.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, get_world_size, init_process_group
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)

LLAMA_405B = {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


class Attention(nn.Module):
    """Attention with grouped heads, of which a rank has its part."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        width, heads = config["hidden_size"], config["num_attention_heads"]
        self.head = width // heads
        shared = config["num_key_value_heads"] * self.head
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, shared, bias=False)
        self.wv = nn.Linear(width, shared, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to what is before."""
        batch, length, _ = x.shape
        q, k, v = (each(x).view(batch, length, -1, self.head).transpose(1, 2) for each in (self.wq, self.wk, self.wv))
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.wo(out.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        width, hidden = config["hidden_size"], config["intermediate_size"]
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate and project."""
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    """Attention and a feed-forward network, each after a norm."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config["hidden_size"], eps=1e-5)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config["hidden_size"], eps=1e-5)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """Add both to what came in."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Part(nn.Module):
    """The layers of a pipeline stage; the first has the embedding, the last the norm and the head."""

    def __init__(self, config: dict[str, int], stage: int, stages: int) -> None:
        super().__init__()
        width, words = config["hidden_size"], config["vocab_size"]
        first, last = stage == 0, stage == stages - 1
        self.embedding = nn.Embedding(words, width) if first else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(layers_of(stage, stages, config["num_hidden_layers"])))
        self.norm = nn.RMSNorm(width, eps=1e-5) if last else None
        self.head = nn.Linear(width, words, bias=False) if last else None

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers that are here."""
        if self.embedding is not None:
            x = self.embedding(x)
        for layer in self.layers:
            x = layer(x)
        return x if self.head is None else self.head(self.norm(x))


def layers_of(stage: int, stages: int, layers: int) -> int:
    """Return the layers of a stage: what is left over is not for the first and the last, which have more to do."""
    each, over = divmod(layers, stages)
    order = [*range(1, stages - 1), stages - 1, 0]
    return each + (order.index(stage) < over)


def parallelize(model: Part, mesh: DeviceMesh) -> None:
    """Split products over ranks, and what is between them along the sequence."""
    gathered = PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))
    plan = {
        "attention_norm": SequenceParallel(),
        "attention": gathered,
        "attention.wq": ColwiseParallel(),
        "attention.wk": ColwiseParallel(),
        "attention.wv": ColwiseParallel(),
        "attention.wo": RowwiseParallel(output_layouts=Shard(1)),
        "ffn_norm": SequenceParallel(),
        "feed_forward": gathered,
        "feed_forward.w1": ColwiseParallel(),
        "feed_forward.w2": RowwiseParallel(output_layouts=Shard(1)),
        "feed_forward.w3": ColwiseParallel(),
    }
    for layer in model.layers:
        parallelize_module(layer, mesh, plan)
    if model.embedding is not None:
        parallelize_module(
            model, mesh, {"embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1))}
        )
    if model.head is not None:
        head = ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False)
        parallelize_module(model, mesh, {"norm": SequenceParallel(), "head": head})


def shard(model: Part, mesh: DeviceMesh) -> None:
    """Shard parameters, gradients and states of the optimizer; compute in bfloat16, reduce in float32."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in (*model.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the cross entropy of logits that are split over the vocabulary."""
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(0, 1))


def main() -> None:
    """Take one step."""
    options = parsed()
    config = json.loads(options.config.read_text()) if options.config else LLAMA_405B
    config = {**config, "num_hidden_layers": options.layers or config["num_hidden_layers"]}
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    init_process_group("nccl")
    dp = get_world_size() // (options.tp * options.pp)
    mesh = init_device_mesh("cuda", (options.pp, dp, options.tp), mesh_dim_names=("pp", "dp", "tp"))
    stage = mesh["pp"].get_local_rank()
    with torch.device("meta"):
        model = Part(config, stage, options.pp)
    parallelize(model, mesh["tp"])
    shard(model, mesh["dp"])
    model.to_empty(device="cuda")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    step(model, optimizer, mesh, options, config)
    destroy_process_group()


def step(
    model: Part, optimizer: torch.optim.Optimizer, mesh: DeviceMesh, options: argparse.Namespace, config: dict[str, int]
) -> None:
    """Run a batch through the pipeline, and update."""
    tokens = torch.randint(config["vocab_size"], (options.microbatches, options.seq), device="cuda")
    rows = options.seq // options.tp
    hidden = torch.empty(1, rows, config["hidden_size"], dtype=torch.bfloat16, device="cuda", requires_grad=True)
    words = config["vocab_size"] // options.tp
    index = mesh["pp"].get_local_rank()
    first, last = index == 0, index == options.pp - 1
    logits = torch.empty(1, options.seq, words, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    stage = PipelineStage(
        model,
        index,
        options.pp,
        torch.device("cuda", torch.cuda.current_device()),
        input_args=tokens[:1] if first else hidden,
        output_args=logits if last else hidden,
        group=mesh.get_group("pp"),
    )
    schedule = Schedule1F1B(stage, options.microbatches, loss_fn=loss_of)
    with loss_parallel():
        schedule.step(*([tokens] if first else []), **({"target": tokens} if last else {}))
    optimizer.step()
    optimizer.zero_grad()


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--layers", type=int, help="in place of the configuration's")
    parser.add_argument("--tp", type=int, default=8)
    parser.add_argument("--pp", type=int, default=16)
    parser.add_argument("--seq", type=int, default=8192)
    parser.add_argument("--microbatches", type=int, default=16, help="of one sequence, in each pipeline")
    return parser.parse_args()


if __name__ == "__main__":
    main()
