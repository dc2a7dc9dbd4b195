"""Install the import hooks of ``tests/shims.py`` when an interpreter with this directory on its path starts."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("opcount_test_shims", Path(__file__).resolve().parents[1] / "shims.py")
assert _spec is not None
assert _spec.loader is not None
_shims = module_from_spec(_spec)
sys.modules[_spec.name] = _shims
_spec.loader.exec_module(_shims)
_shims.install()
