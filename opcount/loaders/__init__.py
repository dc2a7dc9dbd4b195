"""Loaders: a model and its inputs from a name, a file or a config.

`load` chooses a loader by the form of the target. Libraries are imported when a target needs them.
"""

from __future__ import annotations

from opcount.loaders.blame import blame
from opcount.loaders.request import Loaded, Request
from opcount.loaders.target import load

__all__ = ["Loaded", "Request", "blame", "load"]
