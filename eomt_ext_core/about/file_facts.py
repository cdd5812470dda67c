"""What a file is: a checkpoint, a separate head, an export, a file of learn-normal, or the metrics of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eomt_ext_core.config import DEFAULT_THRESHOLD
from eomt_ext_core.errors import CheckpointError, ConfigError, EomtExtError
from eomt_ext_core.files import printable, sha256_of

_MOST_METRICS_BYTES = 256 << 20
_MOST_METRICS_DEPTH = 16
_LARGEST_NUMBER = 1 << 63
_OWN_INFO = ("class_names", "calibration", "score_calibrations", "probe", "record", "earlier_records")


def facts_of(source: str, head: str | None = None) -> dict[str, Any]:
    """Describe a file by JSON values, without making a network of it.

    Args:
        source: a file, a folder of Transformers or of results, or ``demo``.
        head: a separate file with the anomaly head of a checkpoint.

    Raises:
        CheckpointError: if it is missing, damaged or foreign; the message names the file.
    """
    path = _file_of(source)
    kinds = {".json": _metrics, ".onnx": _exported, ".pt2": _exported}
    describe = None if path.name.endswith(".index.json") else kinds.get(path.suffix)
    try:
        facts = describe(path) if describe is not None and head is None else _weights(source, path, head)
    except EomtExtError as error:
        text, name = str(error), printable(path)
        raise CheckpointError(text if str(path) in text or name in text else f"{name}: {text}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    return {"file": printable(path), "sha256": sha256_of(path), "bytes": path.stat().st_size, **facts}


def _file_of(source: str) -> Path:
    """Return the file of a source; for a folder without a model, its metrics."""
    from eomt_ext_core.model.checkpoint import resolve_source

    try:
        return resolve_source(source, download=False)
    except CheckpointError:
        metrics = Path(source).expanduser() / "metrics.json"
        if metrics.is_file():
            return metrics
        raise


def _weights(source: str, path: Path, head: str | None) -> dict[str, Any]:
    """Describe a checkpoint, a separate head, or a file of learn-normal."""
    from eomt_ext_core.model.architecture import LeftOpen
    from eomt_ext_core.model.checkpoint import read_checkpoint
    from eomt_ext_core.model.layouts import sort_weights
    from eomt_ext_core.model.weight_files import read_tensors
    from eomt_ext_core.normality.normal_file import is_normality

    if path.suffix == ".safetensors" and path.is_file() and head is None:
        tensors, texts = read_tensors(path)
        if is_normality(texts):
            return _normality(path)
        found = sort_weights(tensors)
        if found.head and not found.network:
            return _head_alone(found.head)
    try:
        read = read_checkpoint(source, head=head, download=False)
    except CheckpointError as error:
        if not isinstance(error.__cause__, LeftOpen):
            raise
        missing = ", ".join(error.__cause__.flags)
        return {
            "kind": "checkpoint that leaves its architecture open",
            "missing": f"{missing}: eomt-ext convert takes them, and writes a file that holds them",
            "sizes": error.__cause__.sizes,
        }
    config, form = read.config, read.head_config
    return {
        "kind": "checkpoint",
        "architecture": {
            "backbone": config.backbone,
            "overrides": dict(config.backbone_overrides),
            "queries": config.num_queries,
            "query_blocks": config.num_blocks,
            "masked_attention": config.masked_attention,
        },
        "window_hw": list(config.crop_hw),
        "patch": config.patch_size,
        "head": None if form is None else _head_facts(form.feature_proj_dim, form.hidden_dim, read.head),
        "parameters": _count(read.network) + _count(read.head),
        **_info_facts(read.info, config.num_classes, has_head=form is not None),
    }


def _head_alone(head: Mapping[str, Any]) -> dict[str, Any]:
    first, projection = head.get("mlp.0.weight"), head.get("feature_proj.0.weight")
    if first is None or first.ndim != 2:
        raise CheckpointError("an anomaly head must hold a matrix 'mlp.0.weight'")
    projected = None if projection is None else int(projection.shape[0])
    return {"kind": "anomaly head", "head": _head_facts(projected, int(first.shape[0]), head)}


def _head_facts(projected: int | None, hidden: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
    form = "plain features" if projected is None else f"features projected to {projected} channels"
    return {"form": form, "hidden": hidden, "parameters": _count(tensors)}


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() for name, tensor in tensors.items() if "pixel_" not in name)


def _info_facts(info: Mapping[str, Any], num_classes: int, *, has_head: bool) -> dict[str, Any]:
    """Describe what checkpoints and exports hold beside the weights; already checked for types and lengths."""
    from eomt_ext_core.model.metadata import class_names_of
    from eomt_ext_core.scoring.calibration import SCORES_KEY

    names = class_names_of(info, num_classes)
    probe = info.get("probe")
    return {
        "classes": {str(index): name for index, name in enumerate(names)} if names else num_classes,
        "threshold": threshold_of(info) if has_head else None,
        "calibration": info.get("calibration"),
        "guarantee": guarantee(info.get("calibration")),
        "baselines": {
            name: {"threshold": stored["threshold"], "guarantee": guarantee(stored)}
            for name, stored in info.get(SCORES_KEY, {}).items()
        },
        "known_answer": None if probe is None else {"scores": sorted(probe["scores"]), "window_hw": probe["crop_hw"]},
        "provenance": {name: value for name, value in info.items() if name not in _OWN_INFO},
        "record": info.get("record"),
        "earlier_records": info.get("earlier_records"),
    }


def threshold_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Give the threshold that the head's mask is cut at unless another is chosen, and where it comes from."""
    calibration = info.get("calibration")
    if calibration is None:
        return {"value": DEFAULT_THRESHOLD, "origin": "default"}
    return {"value": calibration["threshold"], "origin": "calibration of the checkpoint"}


def guarantee(calibration: Mapping[str, Any] | None) -> str:
    """Say in a sentence what the threshold of a calibration promises.

    >>> guarantee({"target_tpr": 0.95, "guarantee": "pixels", "num_frames": 40, "data": "val"})
    'finds at least 95 % of the anomalous pixels of a frame in expectation; fitted on 40 frames of val'
    """
    if calibration is None:
        return "none: not calibrated"
    target, kind = calibration.get("target_tpr"), calibration.get("guarantee", "pixels")
    if not isinstance(target, int | float) or kind not in ("pixels", "obstacles"):
        return "none stated"
    what = "anomalous pixels of a frame in expectation"
    if kind == "obstacles":
        what = "obstacles of each size"
        if isinstance(calibration.get("confidence"), int | float):
            what += f" with a confidence of {100 * calibration['confidence']:g} %"
    fitted = f"fitted on {calibration.get('num_frames', '?')} frames of {calibration.get('data', '?')}"
    return f"finds at least {100 * target:g} % of the {what}; {fitted}"


def _normality(path: Path) -> dict[str, Any]:
    from eomt_ext_core.normality.normal_file import read_normality

    normality = read_normality(path)
    about = {name: value for name, value in normality.about.items() if name != "record"}
    return {
        "kind": "normality",
        "scores": sorted(normality.readings),
        "prototypes": normality.distance.prototypes.shape[0],
        "channels": normality.distance.whitening.shape[0],
        "watches_drift": normality.drift is not None,
        "belongs_to": dict(normality.origin),
        "provenance": about,
        "record": normality.about.get("record"),
    }


def _exported(path: Path) -> dict[str, Any]:
    from eomt_ext_core.about.exported import read_exported

    contents = read_exported(path)
    return {
        "kind": f"export ({path.suffix[1:]})",
        "window_hw": list(contents.crop_hw),
        "outputs": list(contents.outputs),
        "precision": contents.precision,
        "score_stride": contents.score_stride,
        "windows_in_a_call": contents.batch or "any number",
        "made_from": dict(contents.origin),
        **_info_facts(contents.info, contents.num_classes, has_head="head" in contents.outputs),
    }


def _metrics(path: Path) -> dict[str, Any]:
    found = read_metrics(path)
    return {
        "kind": "metrics of a run",
        "sets": {
            str(part.get("name")): {"frames": part.get("num_frames"), "scores": list(part.get("scores") or {})}
            for part in found["sets"]
        },
        "about": found.get("about"),
        "record": found.get("record"),
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a ``metrics.json`` of ``evaluate`` or ``replay``.

    Raises:
        ConfigError: naming the file, if it is missing, damaged, too large or something else.
    """
    try:
        if path.stat().st_size > _MOST_METRICS_BYTES:
            raise ConfigError(f"{printable(path)}: metrics must have at most {_MOST_METRICS_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, EomtExtError):
            raise
        raise ConfigError(f"{printable(path)} is no metrics.json of this package: {error}") from error
    sets = found.get("sets") if isinstance(found, dict) else None
    if not isinstance(sets, list) or not all(isinstance(part, dict) for part in sets) or found.get("format") != 1:
        raise ConfigError(f"{printable(path)} is no metrics.json of this package: it must hold format 1 and its sets")
    problem = _problem_of(found)
    if problem:
        raise ConfigError(f"{printable(path)} is damaged: {problem}")
    return dict(found)


def _problem_of(value: Any) -> str:
    """Say what later readers could not work with: whole numbers that no float holds, and nesting without end."""
    values = [value]
    for _ in range(_MOST_METRICS_DEPTH + 1):
        if any(isinstance(item, int) and abs(item) >= _LARGEST_NUMBER for item in values):
            return "it may hold whole numbers between -2^63 and 2^63, got another"
        inside = [item.values() if isinstance(item, dict) else item for item in values if isinstance(item, dict | list)]
        values = [item for items in inside for item in items]
        if not values:
            return ""
    return f"it may be nested at most {_MOST_METRICS_DEPTH} deep"
