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

TIMEOUT = 120

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "opcount.counter", "tests.distributed.programs"])


def run(program: Callable[..., Any], size: int, *arguments: Any, fake: bool = False) -> list[Any]:
    """Return what a function of a module returned on each rank.

    Args:
        program: Called as ``program(rank, size, *arguments)``, with the default process group initialized.
        size: The number of ranks.
        arguments: Further arguments, to be pickled.
        fake: Whether each rank is alone and has PyTorch's fake process group.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = _CONTEXT.SimpleQueue()
        store = f"file://{Path(folder) / 'store'}"
        ranks = [
            _CONTEXT.Process(target=_rank, args=(answers, program, rank, size, store, fake, arguments))
            for rank in range(size)
        ]
        for process in ranks:
            process.start()
        try:
            found = {}
            for _ in ranks:
                rank, answer, error = answers.get()
                assert error is None, error
                found[rank] = answer
        finally:
            for process in ranks:
                process.join(0 if len(found) < size else TIMEOUT)
                process.kill()
    return [found[rank] for rank in range(size)]


def _rank(answers: Any, program: Any, rank: int, size: int, store: str, fake: bool, arguments: Any) -> None:
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
        answers.put((rank, answer, None))
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))
        raise
