"""Settings of an OpenMMLab config: read from a file, made fit for a count, and the package that builds them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcount.errors import LoadError
from opcount.loaders.blame import blame
from opcount.loaders.fetches import package_versions_known
from opcount.loaders.hub import INSTALL

if TYPE_CHECKING:
    from collections.abc import Callable

_NEEDLESS = {"init_cfg", "teacher_ckpt", "augments", "batch_augments", "blending"}
"""Keys that name weights to fetch, and augmentations of batches for training: a forward pass needs neither."""

_WEIGHTS = "pretrained"
"""Key that names weights, too, and that some constructors insist on: they take None, or False where it is a flag."""

_ALIKE = {"MMSyncBN": "SyncBN"}
"""Layers that cannot be built outside of a distributed job, and those of the same count that can."""

_PACKAGES = ("mmpretrain", "mmdet", "mmyolo", "mmseg", "mmpose", "mmaction", "mmrotate", "mmocr", "mmrazor")


def read(path: Path, options: tuple[str, ...]) -> Any:
    """Return a config, some settings overridden.

    Raises:
        LoadError: It cannot be read, or holds no model.
    """
    try:
        settings = import_module("mmengine.config")
        with package_versions_known():
            config = _from_file(settings.Config, path)
        if options:
            parser = argparse.ArgumentParser()
            parser.add_argument("--options", nargs="+", action=settings.DictAction)
            config.merge_from_dict(parser.parse_args(["--options", *options]).options)
    except (Exception, SystemExit) as error:
        raise LoadError(f"load: the config {str(path)!r} cannot be read: {blame(error)}") from error
    if not isinstance(config.get("model"), dict):
        raise LoadError(
            f"load: expected `model = dict(type=..., ...)` in the config {str(path)!r}, got {config.get('model')!r}."
        )
    return config


def _from_file(kind: Any, path: Path) -> Any:
    """Read a config; as one of strings if a base of it only seems to be one of imports."""
    try:
        return kind.fromfile(path)
    except RuntimeError as error:
        if "lazy_import" not in str(error) or "lazy_import" not in inspect.signature(kind.fromfile).parameters:
            raise
        return kind.fromfile(path, lazy_import=False)


def scope_of(config: Any, path: Path) -> str:
    """Return the package whose registry builds a config's model: what the config says, else what its model tells."""
    scope = config.get("default_scope")
    if scope and scope != "mmengine":
        return str(scope)
    kind = config.model.get("type")
    if isinstance(kind, str) and "." in kind:
        return kind.partition(".")[0]
    if not isinstance(kind, str):
        return str(getattr(kind, "__module__", "mmengine")).partition(".")[0]
    own = (parent.parent.name for parent in path.resolve().parents if parent.name == ".mim")
    return next(own, "") or next(filter(_knows(kind), _PACKAGES), "mmengine")


def _knows(kind: str) -> Callable[[str], bool]:
    registry = import_module("mmengine.registry")

    def knows(package: str) -> bool:
        if find_spec(package) is None:
            return False
        try:
            with registry.MODELS.switch_scope_and_registry(package) as models:
                return models.get(kind) is not None
        except (Exception, SystemExit):  # noqa: BLE001  (a package that does not import builds nothing)
            return False

    return knows


def check_packages(settings: Any, target: str) -> None:
    """Raise an error if a package of OpenMMLab that parts of a model come from is missing.

    Raises:
        LoadError: It is.
    """
    for package in _scopes(settings):
        if package.startswith("mm"):
            require(package, target)


def require(package: str, target: str) -> None:
    """Raise an error if a package that a config needs is missing.

    Raises:
        LoadError: It is.
    """
    if not _is_here(package):
        known = package in {"mmengine", "mmpretrain", "mmdet", "mmyolo"}
        advice = INSTALL if known else f"Install {package}, or build the model in a Python file: FILE.py:factory."
        raise LoadError(f"load: the config {target!r} needs {package}, which is not installed. {advice}")


def _is_here(package: str) -> bool:
    """Return whether a package is installed, or a module that the config imports has registered models as its own."""
    if find_spec(package) is not None:
        return True
    return find_spec("mmengine") is not None and package in import_module("mmengine.registry").MODELS.children


def _scopes(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        kind = value.get("type")
        if isinstance(kind, str) and "." in kind:
            yield kind.partition(".")[0]
        if isinstance(value.get("_scope_"), str):
            yield value["_scope_"]
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _scopes(item)


def model_settings(config: Any, path: Path) -> Any:
    """Return the settings of a config's model without what a count does not need, its files found."""
    settings = countable(config.model, path)
    if settings.get("data_preprocessor") is None and config.get("data_preprocessor") is not None:
        settings["data_preprocessor"] = countable(config.data_preprocessor, path)
    return settings


def countable(value: Any, path: Path) -> Any:
    """Return settings without the keys that a count does not need, at any depth; dicts and lists keep their class."""
    if isinstance(value, dict):
        kept = {key: countable(item, path) for key, item in value.items() if key not in _NEEDLESS}
        if _WEIGHTS in kept:
            kept[_WEIGHTS] = False if isinstance(kept[_WEIGHTS], bool) else None
        if isinstance(kept.get("type"), str):
            kept["type"] = _ALIKE.get(kept["type"], kept["type"])
        return type(value)(kept)
    if isinstance(value, (list, tuple)):
        return type(value)(countable(item, path) for item in value)
    return _found(value, path) if isinstance(value, str) and value.endswith(".py") else value


def _found(name: str, path: Path) -> str:
    """Return where a config that another names is: names are relative to the folder that holds ``configs``."""
    homes = [Path(), *path.resolve().parents]
    return next((str(home / name) for home in homes if (home / name).is_file()), name)


def without_key(value: Any, key: str) -> Any:
    """Return settings without a key, at any depth."""
    if isinstance(value, dict):
        return type(value)({name: without_key(item, key) for name, item in value.items() if name != key})
    return type(value)(without_key(item, key) for item in value) if isinstance(value, (list, tuple)) else value
