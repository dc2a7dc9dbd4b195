"""Operators against their floors on this machine as it is measured: none is faster, and simple ones come near.

The value is the time of an operator, the ratio its floor over that. The limits: a large product reaches 80 percent of
its floor, an addition 60 percent, and no operator beats its own by more than the error of the measurement.

The memory takes its time to fetch: a CPU fetches what is read, and the lines that are only written, too. An array that
is changed in place is fetched once, but is both read and written: here its bytes are counted once.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import measure
import torch

from opcount import OpCounter
from opcount.machine import measured_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ERROR = 1.15
"""A measured peak varies by this much on a machine that others use, too; times are of the processor alone."""

LEAST = {"mm 1024": 0.8, "mm 2048": 0.8, "add": 0.6}
"""Shares of the floor that these reach at least."""


IN_PLACE = {"add_": 1, "relu_": 1}
"""Arrays of a program that are read and written in one place."""

SIZE = 1 << 25
"""Elements of an array."""


def programs() -> dict[str, Callable[[], object]]:
    """Return operators, large enough to leave the caches."""
    x, y, out = (torch.rand(SIZE) for _ in range(3))
    small, large = torch.rand(1024, 1024), torch.rand(2048, 2048)
    wide = torch.rand(8192, 8192)
    image, weight = torch.rand(8, 64, 56, 56), torch.rand(64, 64, 3, 3)
    q = torch.rand(4, 8, 512, 64)
    table, index = torch.rand(1 << 18, 64), torch.randint(1 << 18, (1 << 17,))
    functional = torch.nn.functional
    return {
        "mm 1024": lambda: small @ small,
        "mm 2048": lambda: large @ large,
        "mv": lambda: wide @ wide[0],
        "add": lambda: torch.add(x, y, out=out),
        "copy": lambda: out.copy_(x),
        "fill": lambda: out.fill_(1.0),
        "sum": x.sum,
        "relu": lambda: torch.relu(x),
        "add_": lambda: out.add_(y),
        "relu_": lambda: torch.relu_(out),
        "softmax": lambda: torch.softmax(x.view(-1, 1024), -1),
        "layer_norm": lambda: functional.layer_norm(x.view(-1, 1024), (1024,)),
        "conv2d": lambda: functional.conv2d(image, weight, padding=1),
        "attention": lambda: functional.scaled_dot_product_attention(q, q, q),
        "embedding": lambda: functional.embedding(index, table),
    }


def run(names: list[str] | None = None) -> Iterator[measure.Result]:
    """Time each operator, and compare with its floor on the measured device."""
    device = measured_device("cpu", clock=time.thread_time)
    for name, program in programs().items():
        if names and name not in names:
            continue
        with torch.no_grad(), OpCounter() as c:
            program()
        twice = IN_PLACE.get(name, 0) * SIZE * torch.float32.itemsize
        floor, taken = c.on(device).seconds - twice / device.bandwidth, _best(program)
        share = floor / taken
        yield measure.Result("floors", name, "time", f"floor {1e3 * floor:.3f} ms", taken, share)
        yield measure.Result("floors", name, "time", f"limit: {ERROR} x faster than the floor", taken, ERROR / share)
        if name in LEAST:
            limit = LEAST[name]
            yield measure.Result("floors", name, "time", f"limit: {limit:.0%} of the floor", taken, share / limit)


def _best(program: Callable[[], object], budget: float = 1.5) -> float:
    program()
    gc.collect()
    times: list[float] = []
    with torch.no_grad():
        while sum(times) < budget or len(times) < 9:
            start = time.thread_time()
            program()
            times.append(time.thread_time() - start)
    return min(times)
