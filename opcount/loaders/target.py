"""Loading a target: a plain Python file, something to import, a library's model, or an OpenMMLab config."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from opcount.errors import InputError, LoadError, OpcountError
from opcount.loaders import diffusion, hugging_face, image_models, importable, openmmlab, pyfile
from opcount.loaders.blame import blame
from opcount.loaders.build import unimportable
from opcount.loaders.cli_values import read_json
from opcount.loaders.hub import find_config
from opcount.loaders.request import Request

if TYPE_CHECKING:
    from opcount.loaders.request import Loaded

_LIBRARIES = {
    "torchvision": image_models.load_torchvision,
    "timm": image_models.load_timm,
    "transformers": hugging_face.load,
    "diffusers": diffusion.load,
}
_IMPORTABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_][\w.]*")
_CONFIG_SUFFIXES = {".py", ".json", ".yaml", ".yml"}


def load(target: str, request: Request | None = None) -> Loaded:
    """Build the model that ``target`` names, and inputs for it.

    Args:
        target: ``FILE.py`` or ``FILE.py:factory``; ``package.module:factory``; ``torchvision/NAME``, ``timm/NAME``;
            ``transformers/`` with a folder, a ``config.json`` or a model type behind it, and ``diffusers/`` with one of
            these or a class; the path of an OpenMMLab config, or a model name of mmpretrain, mmdet or mmyolo, with
            ``package::`` before it where two packages know it.
        request: Sizes of the inputs, arguments and settings of the model, device and mode.

    Raises:
        LoadError: The target names nothing, or what it names does not build a model.
        InputError: The shape does not suit the model, or an option has nothing to act on.
    """
    request = request or Request()
    if not target:
        raise LoadError("load: expected a target, got ''. Name a file, a config or a model.")
    _check_device(request.device)
    try:
        loaded = _load(target, request)
    except OpcountError:
        raise
    except ImportError as error:
        raise LoadError(f"load: {unimportable(target.partition('/')[0], error)}") from error
    except Exception as error:
        raise LoadError(f"load: {target} cannot be made a model and its inputs of: {blame(error)}") from error
    if option := request.unused():
        raise InputError(
            f"load: expected no {option} for {target!r}: nothing of the model or of what it is called with depends on "
            "it. Leave it out."
        )
    batch = request.samples if "batch_size" in request.used else None
    return replace(loaded, assumed="" if loaded.declared else request.assumed, batch=batch)


def _load(target: str, request: Request) -> Loaded:
    library, slash, name = target.partition("/")
    if slash and library in _LIBRARIES and not Path(target).exists():
        return _LIBRARIES[library](name, request)
    if owner := _owner(target.partition(":")[0]):
        return _noted(_LIBRARIES[owner](target, request), target, owner)
    file, colon, factory = _split(target)
    if not colon and _IMPORTABLE.fullmatch(target):
        return _imported(target, request)
    path = Path(file)
    if colon or (path.suffix == ".py" and path.is_file() and not is_config(path)):
        return pyfile.load(path, factory, request)
    if path.exists() and (path.is_dir() or path.suffix not in _CONFIG_SUFFIXES):
        raise LoadError(
            f"load: expected a Python file or a config, got {target!r}, which is a "
            f"{'folder' if path.is_dir() else 'file of another kind'}. Name a .py file."
        )
    try:
        find_config(target)
    except LoadError as error:
        return _elsewhere(target, request, error)
    return openmmlab.load(target, request)


def _imported(target: str, request: Request) -> Loaded:
    """Load something to import, else a type of transformers with a class of its own, ``gpt2:GPT2Model``."""
    try:
        return importable.load(target, request)
    except LoadError as error:
        if "." in target or not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        return _elsewhere(target, request, error)


def _owner(path: str) -> str:
    """Return the library whose ``config.json`` a path holds or is; empty: none.

    Raises:
        LoadError: It is a profile.
    """
    file = Path(path, "config.json") if Path(path).is_dir() else Path(path)
    if file.suffix != ".json" or not file.is_file():
        return ""
    try:
        settings = read_json(file)
    except LoadError:
        return ""
    if settings.get("format") == "opcount.profile":
        raise LoadError(f"load: expected a model, got a stored profile, {path!r}. Run: opcount show {path}")
    return "transformers" if "model_type" in settings else "diffusers" if "_class_name" in settings else ""


def _noted(loaded: Loaded, target: str, library: str) -> Loaded:
    return replace(loaded, note=" ".join(filter(None, [f"{target} is counted as {library}/{target}.", loaded.note])))


def _elsewhere(target: str, request: Request, error: LoadError) -> Loaded:
    """Load a type of transformers by its bare name; else raise the error, with the libraries that know the name."""
    name = target.partition(":")[0]
    if re.fullmatch(r"[\w.-]+", name):
        if hugging_face.knows(name):
            return _noted(hugging_face.load(target, request), target, "transformers")
        if ways := image_models.homes_of(name):
            raise LoadError(f"{str(error).partition('. ')[0]}. Did you mean {' or '.join(ways)}?") from error
    if re.fullmatch(r"[\w.-]+/[\w.-]+", target):
        raise LoadError(
            f"{error} To count a model of the Hugging Face Hub, save its config.json and pass transformers/FOLDER: "
            "nothing is downloaded."
        ) from error
    raise error


def is_config(path: Path) -> bool:
    """Return whether a Python file is an OpenMMLab config: it inherits one, or assigns a dict to ``model``.

    A file that does not parse is none: its import then raises the error.
    """
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    return any(_inherits(node) or _assigns_model(node) for node in body)


def _split(target: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(.+\.py):([^:/\\]*)", target)
    return (match[1], ":", match[2]) if match else (target, "", "")


def _inherits(node: ast.stmt) -> bool:
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items]
        return any(isinstance(call, ast.Call) and _name(call.func) == "read_base" for call in calls)
    return "_base_" in _targets(node)


def _assigns_model(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    is_dict = isinstance(value, ast.Dict) or (isinstance(value, ast.Call) and _name(value.func) == "dict")
    return is_dict and "model" in _targets(node)


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [_name(target) for target in node.targets]
    return [_name(node.target)] if isinstance(node, ast.AnnAssign) else []


def _name(node: ast.expr) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


def _check_device(device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise LoadError(
            f"load: expected a device that is present, got {device!r}, and torch sees no GPU. Pass 'cpu' or 'meta'."
        )
