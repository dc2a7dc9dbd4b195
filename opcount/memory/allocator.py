"""The allocator's own account of a real run: what is inside kernels shows there, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from opcount._torch.profiling import allocation_profiler, allocations_of, profiler_runs, start_silently
from opcount.errors import CounterStateError
from opcount.live_memory import AllocatorPeak, LiveMemory

if TYPE_CHECKING:
    from torch import nn

    from opcount.memory.ledger import Ledger
    from opcount.undo import Undo

_REQUESTED, _ALLOCATED, _RESERVED = "requested_bytes.all", "allocated_bytes.all", "reserved_bytes.all"


class Allocator:
    """Account of the device that a model is on, from the start of a block to its end.

    Attributes:
        risen: The most bytes by which what is allocated rose; None: it is not known yet, or not at all. On a CPU what
            was allocated before is left out, also when it is freed: the profiler does not see that.
        allocated: On CUDA the most bytes of blocks.
        reserved: On CUDA the most bytes of segments.
    """

    def __init__(self) -> None:
        self.risen: int | None = None
        self.allocated = self.reserved = 0

    def begin(self, model: nn.Module | None, undo: Undo) -> None:
        """Begin the account; on CUDA the peaks that PyTorch keeps are set back.

        Raises:
            CounterStateError: A profiler runs, which this would end.
        """
        if _is_on_cuda(model):
            torch.cuda.reset_peak_memory_stats()
            undo.add(partial(self._end_on_cuda, torch.cuda.memory_stats()[f"{_REQUESTED}.current"]))
            return
        if profiler_runs():
            raise CounterStateError(
                'OpCounter: expected no running profiler for memory="allocator", which profiles allocations itself, '
                "got one. Count outside of it, or with memory=True."
            )
        profiler = allocation_profiler()
        undo.add(partial(self._end, profiler))
        start_silently(profiler)

    def _end_on_cuda(self, before: int) -> None:
        stats = torch.cuda.memory_stats()
        self.risen = stats[f"{_REQUESTED}.peak"] - before
        self.allocated, self.reserved = stats[f"{_ALLOCATED}.peak"], stats[f"{_RESERVED}.peak"]

    def _end(self, profiler: Any) -> None:
        if profiler_runs():  # else it never started, or the program ended it by a profiler of its own
            profiler.stop()
            self.risen = max(accumulate(allocations_of(profiler), initial=0))

    def read(self, memory: LiveMemory, ledger: Ledger) -> LiveMemory:
        """Return live memory with the peak of the allocator.

        Args:
            memory: Live bytes, by storages.
            ledger: The account that these are from, with a log.
        """
        if self.risen is None:
            return memory
        log = None if self.reserved or ledger.log is None else ledger.log.log()
        inside = max(0, self.risen - (ledger.peak if log is None else log.most_made()))
        peak = AllocatorPeak(memory.peak + inside, inside, self.allocated, self.reserved)
        return replace(memory, allocator=peak)


def _is_on_cuda(model: nn.Module | None) -> bool:
    if not torch.cuda.is_initialized():
        return False
    return True if model is None else any(parameter.is_cuda for parameter in model.parameters())
