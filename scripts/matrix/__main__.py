"""Counts under each PyTorch: ``python scripts/matrix [--cpu] [VERSION ...]`` makes environments in ``.tox/matrix``.

With ``--cpu``, only builds without CUDA are tried, and a version that cannot be installed is named and is no failure.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSIONS = "2.1.2 2.2.2 2.3.1 2.4.1 2.5.1 2.6.0 2.7.1 2.8.0 2.9.1 2.10.0 2.11.0 2.12.1 2.13.0 2.14.1 2.15.0".split()


_PATIENCE = 220
"""Seconds after which an installation of a build without CUDA, which is small, is given up."""


def check(version: str, *, cpu: bool = False) -> bool:
    """Print the last line of the smoke test under a version of PyTorch; return whether all its counts are right."""
    folder = ROOT / ".tox" / "matrix" / version
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    numpy = "numpy<2" if version.startswith(("2.1.", "2.2.")) else "numpy"
    build = f"torch=={version}+cpu" if cpu else f"torch=={version}"
    install = [python, "-m", "pip", "install", "-q", build, numpy, "setuptools<82", "-e", ROOT]
    if cpu and not _succeeds(install, [python, "-c", "import torch"]):
        print(f"PyTorch {version}: not tried, for no build without CUDA can be installed here", flush=True)
        return True
    for command in ([] if cpu else [install]) + [[python, ROOT / "scripts" / "matrix" / "smoke.py"]]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (of our own making)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            print(f"PyTorch {version}: failed")
            return False
    print(done.stdout.splitlines()[-1], flush=True)
    return True


def _succeeds(*commands: list[Any]) -> bool:
    """Run commands until one fails or takes too long; return whether none did."""
    try:
        for command in commands:
            subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE)  # noqa: S603  (as above)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


if __name__ == "__main__":
    versions = [argument for argument in sys.argv[1:] if argument != "--cpu"]
    wrong = [version for version in versions or VERSIONS if not check(version, cpu="--cpu" in sys.argv)]
    sys.exit(bool(wrong))
