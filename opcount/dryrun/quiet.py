"""PyTorch logs the traceback of every error of a fake tensor, and raises it all the same."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from opcount._torch.names import FAKE_TENSOR_LOG
from opcount.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = logging.getLogger(FAKE_TENSOR_LOG)


@contextmanager
def errors_raised_only() -> Iterator[None]:
    """Keep errors of fake tensors out of the log: who called the model gets them, with the module where they arose."""
    with Undo() as undo:
        undo.add(partial(_LOG.removeFilter, _is_news))
        _LOG.addFilter(_is_news)
        yield


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None
