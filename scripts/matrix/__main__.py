"""Counts under each PyTorch: ``python scripts/matrix [VERSION ...]`` makes environments in ``.tox/matrix``."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = "2.1.2 2.2.2 2.4.1 2.6.0 2.8.0 2.9.1 2.10.0 2.12.1 2.13.0 2.14.1 2.15.0".split()


def check(version: str) -> bool:
    """Print the last line of the smoke test under a version of PyTorch; return whether all its counts are right."""
    folder = ROOT / ".tox" / "matrix" / version
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    numpy = "numpy<2" if version.startswith(("2.1.", "2.2.")) else "numpy"
    install = [python, "-m", "pip", "install", "-q", f"torch=={version}", numpy, "setuptools<82", "-e", ROOT]
    for command in (install, [python, ROOT / "scripts" / "matrix" / "smoke.py"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (of our own making)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            print(f"PyTorch {version}: failed")
            return False
    print(done.stdout.splitlines()[-1], flush=True)
    return True


if __name__ == "__main__":
    wrong = [version for version in sys.argv[1:] or VERSIONS if not check(version)]
    sys.exit(bool(wrong))
