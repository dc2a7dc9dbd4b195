"""Configs that ship inside the OpenMMLab packages, by name; the packages are not imported."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opcount.errors import LoadError

PACKAGES = ("mmpretrain", "mmdet", "mmyolo")
INSTALL = "Run: pip install 'opcount[openmmlab]'"


def find_config(target: str) -> Path:
    """Return the config file that a path or a model name means.

    Args:
        target: A path that exists; a file's name without its suffix, with folders before it where several bear it, and
            with ``package::`` before it where several packages do; or a name that a package's model index lists.

    Raises:
        LoadError: There is none, or several; near names are offered.
    """
    if Path(target).is_file():
        return Path(target)
    package, _, name = target.rpartition("::")
    folders = _folders(package)
    if not folders:
        raise LoadError(
            f"load: {target!r} is no file, and looking it up as a model name needs "
            f"{package or 'mmpretrain, mmdet or mmyolo'}, which is not installed. {INSTALL}"
        )
    found = [file for folder in folders.values() for file in _named(name, _files(folder / "configs"))]
    found = found or [index[name] for index in map(_index, folders.values()) if name in index]
    if len(found) == 1:
        return found[0]
    raise LoadError(_several(name, folders, found) if found else _none(target, name, folders))


def _folders(package: str) -> dict[str, Path]:
    """Return where each installed package keeps its configs."""
    folders = {}
    for name in [package] if package else PACKAGES:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            continue
        home = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
        roots = [root for root in (home / ".mim", home.parent) if (root / "configs").is_dir()] if spec else []
        if roots:
            folders[name] = roots[0]
    return folders


def _files(configs: Path) -> list[Path]:
    return sorted(file for file in configs.rglob("*.py") if "_base_" not in file.relative_to(configs).parts)


def _named(name: str, files: list[Path]) -> list[Path]:
    parts = Path(name.removesuffix(".py")).parts
    return [file for file in files if file.with_suffix("").parts[-len(parts) :] == parts] if parts else []


def _index(root: Path) -> dict[str, Path]:
    """Return the configs of a package's model index by the models' names."""
    index: dict[str, Path] = {}
    for name in _read_yaml(root / "model-index.yml").get("Import", []):
        models = _read_yaml(root / name).get("Models") or []
        index |= {model["Name"]: root / model["Config"] for model in models if "Config" in model}
    return index


def _read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping that a file holds; empty where there is none, or it holds something else."""
    if not file.is_file():
        return {}
    yaml = import_module("yaml")  # comes with mmengine
    held = yaml.load(file.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return held if isinstance(held, dict) else {"Models": held}


def _several(name: str, folders: dict[str, Path], found: list[Path]) -> str:
    ways = []
    for package, root in folders.items():
        ways += [f"{package}::{_relative(file, root)}" for file in found if root in file.parents]
    return (
        f"load: expected the name of one config, got {name!r}, which names {len(found)}. Pass one of {', '.join(ways)}."
    )


def _none(target: str, name: str, folders: dict[str, Path]) -> str:
    known = {file.stem for root in folders.values() for file in _files(root / "configs")}
    known |= {model for root in folders.values() for model in _index(root)}
    near = get_close_matches(Path(name).name.removesuffix(".py"), sorted(known), n=3, cutoff=0.7)
    near += get_close_matches(Path(name).name, [file.name for file in Path(target).parent.glob("*.py")], cutoff=0.75)
    advice = f"Did you mean {', '.join(near)}?" if near else "Check the path, or the spelling of the name."
    return (
        f"load: expected a file or a model name of {', '.join(folders)}, got {target!r}, which does not exist. {advice}"
    )


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root / "configs").with_suffix("").as_posix()
