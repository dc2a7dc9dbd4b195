"""Filter for PyTorch's log, which gets the traceback of every error that a fake tensor raises."""

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
def errors_unlogged() -> Iterator[None]:
    """Keep errors of fake tensors out of the log: they are raised as well, and name the module."""
    with Undo() as undo:
        undo.add(partial(_LOG.removeFilter, _is_no_error))
        _LOG.addFilter(_is_no_error)
        yield


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.exc_info is None
