"""A file for speedscope (https://www.speedscope.app): a sampled profile whose weights are operations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opcount.escapes import printable
from opcount.reporter.folded import stacks

if TYPE_CHECKING:
    from opcount.profile import Profile

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_METRICS = ("flops", "macs", "activations", "bytes")
_TRAFFIC = ("bytes_read", "traffic")


def render(profile: Profile, name: str = "opcount") -> str:
    """Return the profile as speedscope's JSON: FLOPs, and one profile more for each metric that is not all zero."""
    frames: dict[str, int] = {}
    flops, *others = (
        _view(profile, metric, frames) for metric in (*_METRICS, *(_TRAFFIC if profile.knows_traffic else ()))
    )
    profiles = [flops, *(view for view in others if view["endValue"])]  # speedscope refuses a file without a profile
    return json.dumps(
        {
            "$schema": _SCHEMA,
            "exporter": f"opcount@{profile.provenance.get('opcount', '')}",
            "name": name,
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": printable(frame)} for frame in frames]},
            "profiles": profiles,
        }
    )


def _view(profile: Profile, metric: str, frames: dict[str, int]) -> dict[str, Any]:
    samples, weights = [], []
    for names, number in stacks(profile, metric):
        samples.append([frames.setdefault(name, len(frames)) for name in names])
        weights.append(number)
    title = f"FLOPs ({profile.convention.name})" if metric == "flops" else metric
    return {
        "type": "sampled",
        "name": title,
        "unit": "bytes" if metric in {"bytes", *_TRAFFIC} else "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
