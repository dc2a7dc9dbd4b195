"""PyTorch logs the traceback of every error of a fake tensor, and raises it all the same."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def errors_raised_only() -> Iterator[None]:
    """Keep errors of fake tensors out of the log: who called the model gets them, with the module where they arose."""
    _LOG.addFilter(_is_news)
    try:
        yield
    finally:
        _LOG.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None
