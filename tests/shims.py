"""Let mmpretrain, mmdet, mmyolo and torchvision import where their C++ operators are absent.

A torchvision built for another torch loads no operators, mmcv-lite has none, and mmdet and mmyolo refuse a mmcv newer
than they know. None of this concerns a count: the models of the tests need these packages to import, not to detect
anything. So every shim acts only where the real thing is missing, and only when the package that needs it is imported.

`install` is for the interpreter that calls it; ``tests/startup/sitecustomize.py`` calls it in child processes that have
that directory on their ``PYTHONPATH`` (`child_environment`).
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import torch

ROOT = Path(__file__).resolve().parents[1]
STARTUP = Path(__file__).resolve().parent / "startup"

_VALUES = {
    "mmcv": ("__version__", "2.0.1"),
    "mmpretrain.utils.dependency": ("WITH_MULTIMODAL", False),
}
"""A version that mmpretrain 1.2, mmdet 3.3 and mmyolo 0.6 all accept; no image-and-text models: they need an older
transformers."""

_ROI = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_SIZE = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_BACKWARD = "Tensor grad, Tensor rois, {}float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
_SAMPLING = "int sampling_ratio"
_STRIDES = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)
_DEFORM = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, " + _STRIDES
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor",
    f"roi_align({_ROI}, {_SAMPLING}, bool aligned) -> Tensor",
    f"qroi_align({_ROI}, {_SAMPLING}, bool aligned) -> Tensor",
    f"roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"ps_roi_align({_ROI}, {_SAMPLING}) -> (Tensor, Tensor)",
    f"ps_roi_pool({_ROI}) -> (Tensor, Tensor)",
    f"_roi_align_backward({_BACKWARD.format('')}{_SIZE}, {_SAMPLING}, bool aligned) -> Tensor",
    f"_roi_pool_backward({_BACKWARD.format('Tensor argmax, ')}{_SIZE}) -> Tensor",
    f"_ps_roi_align_backward({_BACKWARD.format('Tensor channel_mapping, ')}{_SAMPLING}, {_SIZE}) -> Tensor",
    f"_ps_roi_pool_backward({_BACKWARD.format('Tensor channel_mapping, ')}{_SIZE}) -> Tensor",
    f"deform_conv2d({_DEFORM}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)

_library: torch.library.Library | None = None


def define_torchvision_operators() -> None:
    """Define the schemas of torchvision's operators, so that it imports; call it before torchvision is imported.

    Nothing happens where torchvision's own library loads, or when the schemas are defined already.
    """
    global _library  # noqa: PLW0603  (a Library undefines its operators when it is collected)
    import torch  # noqa: PLC0415  (child processes that import no torchvision should not pay for torch)

    if _library is not None or "torchvision" in sys.modules or _torchvision_loads():
        return
    _library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _library.define(schema)


def _torchvision_loads() -> bool:
    import torch  # noqa: PLC0415

    spec = PathFinder.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder).glob("_C*")):
            try:
                torch.ops.load_library(str(library))
            except OSError:
                continue
            return True
    return False


def install() -> None:
    """Install the import hooks; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def mmcv_is_compiled() -> bool:
    """Return whether the installed mmcv has its C++ operators."""
    spec = PathFinder.find_spec("mmcv")
    return spec is not None and PathFinder.find_spec("mmcv._ext", spec.submodule_search_locations) is not None


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a child process: this one's, the shims, one thread, and ``variables``.

    The repository is on no path: what runs there finds opcount by itself, or not at all.
    """
    return {**os.environ, "PYTHONPATH": str(STARTUP), "OMP_NUM_THREADS": "1", **variables}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            define_torchvision_operators()
        if fullname == "mmcv._ext" and PathFinder.find_spec(fullname, path) is None:
            return ModuleSpec(fullname, _ExtensionLoader())
        if fullname in _VALUES:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _SettingLoader(spec.loader, *_VALUES[fullname])
            return spec
        return None


class _SettingLoader(Loader):
    """Loads a module, then sets one of its names."""

    def __init__(self, real: Loader, name: str, value: object) -> None:
        self.real = real
        self.name = name
        self.value = value

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.real.exec_module(module)
        setattr(module, self.name, self.value)


class _ExtensionLoader(Loader):
    """Makes a ``mmcv._ext`` in which every function exists."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        known = {"nms": _nms, "roi_align_forward": _roi_align_forward}

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return known.get(name) or _missing(name)

        module.__getattr__ = find  # type: ignore[method-assign]


def _missing(name: str) -> Any:
    def absent(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(f"mmcv._ext.{name}: expected the operators of mmcv, got mmcv-lite. Install mmcv instead.")

    return absent


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int = 0) -> torch.Tensor:
    """Keep the boxes that no better box overlaps; in NumPy, so that a count sees as little of it as of a C++ kernel."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    corners = boxes.detach().cpu().numpy()
    sides = corners[:, 2:] - corners[:, :2] + offset
    areas = sides.prod(1)
    order = np.argsort(-scores.detach().cpu().numpy(), kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        overlap = (high - low + offset).clip(min=0).prod(1)
        order = rest[overlap <= iou_threshold * (areas[best] + areas[rest] - overlap)]
    return torch.from_numpy(np.array(kept, dtype=np.int64))


def _roi_align_forward(*_args: object, **_kwargs: object) -> None:
    """Leave the output, which the caller made, at zero: a count reads its shape only."""
