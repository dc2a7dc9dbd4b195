"""Counts configs of packages dry: ``walk_configs.py [PACKAGE CHUNK CHUNKS ...]`` prints refusals by path, as JSON.

Many configs differ in how they are trained alone: each model is counted once.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["HF_HUB_OFFLINE"] = "1"

from opcount import OpCounter
from opcount.cli.attempt import attempt
from opcount.loaders import blame
from opcount.loaders.openmmlab_settings import read
from opcount.loaders.step import forward


def _count(loaded: Any, dry: bool) -> None:
    with OpCounter(loaded.model, dry_run=dry):
        try:
            forward(loaded)
        except Exception as error:
            raise RuntimeError(blame(error, loaded.model)) from error


def _refusal(config: Path) -> str:
    """Return why a config is not counted; empty if it is."""
    options = Namespace(target=str(config), device="cpu", dry_run=True)
    try:
        with redirect_stdout(sys.stderr):
            attempt(options, _count, lambda _: nullcontext())
    except Exception as error:  # noqa: BLE001  (the test judges it)
        return str(error)
    return ""


def _counted(config: Path) -> str:
    """Return all of a config that a count depends on; its path if it cannot be read."""
    try:
        with redirect_stdout(sys.stderr):
            settings = read(config, ())
    except Exception:  # noqa: BLE001  (the count tells)
        return str(config)
    return repr([settings.get(each) for each in ("default_scope", "model", "data_preprocessor", "test_pipeline")])


def walk(package: str, chunk: int, chunks: int) -> dict[str, str]:
    """Return the refusals of each ``chunks``-th config, by its path."""
    root = Path(find_spec(package).submodule_search_locations[0]) / ".mim" / "configs"  # type: ignore[union-attr, index]
    files = [file for file in sorted(root.rglob("*.py")) if "_base_" not in file.parts]
    known: dict[str, str] = {}
    refusals = {}
    for file in files[chunk::chunks]:
        key = _counted(file)
        if key not in known:
            known[key] = _refusal(file)
        refusals[str(file.relative_to(root))] = known[key]
    return refusals


def main(words: list[str]) -> None:
    """Print what was refused of each package."""
    chunks = zip(words[::3], words[1::3], words[2::3], strict=True)
    refusals = [walk(package, int(chunk), int(chunks)) for package, chunk, chunks in chunks]
    sys.stdout.write(f"{json.dumps(refusals)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
