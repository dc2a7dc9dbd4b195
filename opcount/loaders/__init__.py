"""A name, a file or a config becomes a model and its inputs.

`load` is the door: it decides what a target names, and hands it to `pyfile` or to `openmmlab`. The OpenMMLab packages
are imported when a config asks for them, never before.
"""

from __future__ import annotations

from opcount.loaders.blame import blame
from opcount.loaders.request import Loaded, Request
from opcount.loaders.target import load

__all__ = ["Loaded", "Request", "blame", "load"]
