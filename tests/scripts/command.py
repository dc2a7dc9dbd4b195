"""Run ``scripts/get_flops.py``: in this process, or as its users do."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

from tests import shims

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = shims.ROOT / "scripts" / "get_flops.py"
EXAMPLES = shims.ROOT / "scripts" / "examples"


def import_script() -> ModuleType:
    """Return the script as a module."""
    spec = spec_from_file_location("get_flops", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, **settings) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, with the import shims; it must find opcount by itself."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    settings = {"env": shims.child_environment(), "timeout": 300, **settings}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)
