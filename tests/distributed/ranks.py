"""Programs of several ranks: each runs in a process of its own, and they talk by gloo."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 400

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch", "opcount.counter", "tests.distributed.programs", "tests.distributed.world_programs"]
)


def run(program: Callable[..., Any], size: int, *arguments: Any, fake: bool = False) -> list[Any]:
    """Return what a function of a module returned on each rank.

    Args:
        program: Called as ``program(rank, size, *arguments)``, with the default process group initialized.
        size: The number of ranks.
        arguments: Further arguments, to be pickled.
        fake: Whether each rank is alone and has PyTorch's fake process group.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'store'}"
        pipes = [CONTEXT.Pipe(duplex=False) for _ in range(size)]
        ranks = [
            CONTEXT.Process(target=_rank, args=(answer, program, rank, size, store, fake, arguments))
            for rank, (_, answer) in enumerate(pipes)
        ]
        try:
            for process, (_, answer) in zip(ranks, pipes, strict=True):
                process.start()
                answer.close()  # so that the death of a rank ends its pipe
            found = [_answer(rank, reader) for rank, (reader, _) in enumerate(pipes)]
            for process in ranks:
                process.join(TIMEOUT)
        finally:
            for process in ranks:
                if process.pid is not None:
                    process.kill()
    return found


def _answer(rank: int, reader: Any) -> Any:
    assert reader.poll(TIMEOUT), f"rank {rank} did not answer in {TIMEOUT} s"
    try:
        answer, error = reader.recv()
    except EOFError:
        error = f"rank {rank} died without an answer"
    assert error is None, error
    return answer


def _rank(pipe: Any, program: Any, rank: int, size: int, store: str, fake: bool, arguments: Any) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if fake:
            distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
        else:
            distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
        answer = program(rank, size, *arguments)
        distributed.barrier()  # gloo closes connections that another rank may still be making
        distributed.destroy_process_group()
        pipe.send((answer, None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
        raise
