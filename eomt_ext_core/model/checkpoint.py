"""Load, save and convert models; loading is strict and never executes anything from a file."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from eomt_ext_core.config import ModelConfig
from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.files import save_tensors
from eomt_ext_core.model.architecture import infer_head_config, infer_model_config
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.model.layouts import sort_weights
from eomt_ext_core.scoring.anomaly_head import check_head

DEMO = "demo"
HUB_SCHEME = "hf://"
_METADATA_KEY = "eomt_ext"
_METADATA_VERSION = 1
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_POSITIONS = "encoder.backbone.pos_embed"


def load_model(
    source: str | Path,
    config: ModelConfig | Mapping[str, Any] | None = None,
    *,
    head: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> EoMTExt:
    """Load an EoMT or EoMT-EXT, ready for inference.

    Reads our own safetensors, official EoMT state dicts (``.bin``, ``.pth``, Lightning ``.ckpt``), EoMT-EXT
    checkpoints with either form of head, and folders of Hugging Face Transformers.

    Args:
        source: a file, a folder, ``hf://owner/name`` (downloaded through huggingface_hub), or ``demo``.
        config: the architecture, or the fields of it that the file does not determine. A crop other than the file's
            resamples the position embedding.
        head: a separate file with the anomaly head.
        device: where the model goes.
        dtype: type of its parameters.

    Returns:
        the model in eval mode; its ``info`` is what the checkpoint says of itself.

    Raises:
        CheckpointError: where a file is missing, damaged, foreign, mismatched, or leaves the architecture open. The
            message names the file and the first offending keys.
    """
    path = resolve_source(source)
    state, metadata = _read(path)
    try:
        weights = sort_weights(state)
        if not weights.network and weights.head:
            raise CheckpointError("it holds only an anomaly head: give it as head, on top of a model")
        stored = metadata.get("model", {})
        model_config = infer_model_config(weights.network, weights.attn_mask_probs, _merge_config(stored, config))
        head_state = weights.head if head is None else _read_head(head)
        head_config = None
        if head_state:
            head_config = infer_head_config(head_state, weights.network[_POSITIONS].shape[-1])
            if head is None and metadata.get("head"):
                head_config = replace(head_config, dropout=metadata["head"]["dropout"])
        model = EoMTExt(model_config, head_config)
        _load_network(model.network, weights.network, stored.get("crop_hw"))
        if model.anomaly_head is not None:
            _load_strictly(model.anomaly_head, head_state, "anomaly_head.")
            check_head(model.anomaly_head)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.info = dict(metadata.get("info", {}))
    if head is not None:
        model.info.pop("calibration", None)  # it is that of the head in the file
    return model.to(device=device, dtype=dtype).eval()


def save_model(model: EoMTExt, path: str | Path) -> None:
    """Write a model as one safetensors file with its architecture and ``model.info`` in the metadata.

    The file appears under its name only when it is complete.

    Raises:
        CheckpointError: where ``path`` does not end in ``.safetensors``, or ``model.info`` holds more than JSON values.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a model is saved as .safetensors, got {path.name!r}")
    metadata = {
        "version": _METADATA_VERSION,
        "model": asdict(model.config),
        "head": None if model.anomaly_head is None else asdict(model.anomaly_head.config),
        "info": model.info,
    }
    try:
        described = json.dumps(metadata, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: model.info and the configuration must be JSON values: {error}") from error
    save_tensors(path, model.state_dict(), {_METADATA_KEY: described})


def resolve_source(source: str | Path) -> Path:
    """The file or folder that a source of :func:`load_model` stands for; of a folder, its weights.

    Raises:
        CheckpointError: where it is not there.
    """
    text = str(source)
    if text == DEMO:
        return Path(str(resources.files("eomt_ext_core") / "assets" / "demo.safetensors"))
    if text.startswith(HUB_SCHEME):
        return _download(text)
    path = Path(text).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder; give a checkpoint, hf://owner/name or 'demo'")
    if path.is_dir():
        for name in _FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f"{path}: a model folder must hold {' or '.join(_FOLDER_FILES)}")
    return path


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = source.removeprefix(HUB_SCHEME)
    try:
        folder = snapshot_download(name, allow_patterns=["config.json", *_FOLDER_FILES])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{source}: could not be downloaded: {error}") from error
    return resolve_source(folder)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a file, and what it or the configuration beside it says of the architecture."""
    if path.suffix in (".onnx", ".pt2"):
        raise CheckpointError(f"{path}: an exported file is not a checkpoint: ONNX runs with backend onnxruntime")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
                stored = (file.metadata() or {}).get(_METADATA_KEY)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file (truncated?): {error}") from error
        if stored is not None:
            return state, _read_metadata(path, stored)
    else:
        state = _read_pickle(path)
    config_path = path.parent / "config.json"
    if config_path.is_file() and any(key.startswith("embeddings.") for key in state):
        return state, {"model": _read_transformers_config(config_path)}
    return state, {}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path}: holds Python objects besides tensors, which are never executed here. Save its 'state_dict' "
                f"alone where you trust it. {str(error).splitlines()[0]}"
            ) from error
        raise CheckpointError(f"{path}: not a PyTorch checkpoint, or a truncated one") from error
    except Exception as error:  # a damaged pickle can fail anywhere, as anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a PyTorch checkpoint, or a truncated one: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: must hold a state dict (names to tensors), got {type(content).__name__}")
    others = [f"{key} is {type(value).__name__}" for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"{path}: must hold a state dict (names to tensors), but {', '.join(others[:4])}")
    return {str(key): value for key, value in content.items()}


def _read_metadata(path: Path, stored: str) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads(stored)
        version = metadata["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read: {error}") from error
    if version != _METADATA_VERSION:
        raise CheckpointError(
            f"{path}: metadata version must be {_METADATA_VERSION}, got {version!r}; a newer package wrote it"
        )
    sections = metadata.get("model"), metadata.get("info"), metadata.get("head") or {"dropout": 0.0}
    if not all(isinstance(section, dict) for section in sections) or "dropout" not in sections[2]:
        raise CheckpointError(f"{path}: its metadata must hold 'model', 'info' and 'head', got {sorted(metadata)}")
    return metadata


def _read_transformers_config(path: Path) -> dict[str, Any]:
    """Fields of :class:`ModelConfig` that a Transformers ``config.json`` determines beyond the weights."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        size = stored.get("image_size", 640)
        crop_hw = (size, size) if isinstance(size, int) else tuple(size)
        known: dict[str, Any] = {
            "crop_hw": crop_hw,
            "num_blocks": stored.get("num_blocks", 4),
            "backbone_overrides": {"num_heads": stored.get("num_attention_heads", 16)},
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the configuration of a Transformers model: {error}") from error
    for name, value in (("layer_norm_eps", 1e-6), ("hidden_act", "gelu")):
        if stored.get(name, value) != value:  # no weight tells these: EoMT has but one value of each
            raise CheckpointError(f"{path}: {name} must be {value}, got {stored[name]!r}")
    return known


def _read_head(source: str | Path) -> dict[str, Tensor]:
    path = resolve_source(source)
    state, _ = _read(path)
    head = sort_weights(state).head
    if not head:
        raise CheckpointError(f"{path} holds no anomaly head ('mlp.*' or 'anomaly_head.*')")
    return head


def _merge_config(stored: Mapping[str, Any], given: ModelConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    """What the file says and what the caller says; they must agree on what the weights were trained with."""
    if isinstance(given, ModelConfig):
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    given = given or {}
    _hold_together(stored, given, ("backbone", "num_blocks"), "")
    merged = {**stored, **given}
    stored_overrides, given_overrides = (dict(side.get("backbone_overrides", {})) for side in (stored, given))
    _hold_together(stored_overrides, given_overrides, tuple(stored_overrides), "backbone_overrides ")
    merged["backbone_overrides"] = stored_overrides | given_overrides
    return merged


def _hold_together(stored: Mapping[str, Any], given: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in names:
        if name in stored and name in given and stored[name] != given[name]:
            raise CheckpointError(f"{where}{name} is {stored[name]!r} in the file, but {given[name]!r} is given")


def _load_network(network: EoMT, state: dict[str, Tensor], file_crop_hw: tuple[int, int] | None) -> None:
    """Load strictly, but for the position embedding, which is resampled where the crop differs."""
    own = network.state_dict()
    positions, wanted = state[_POSITIONS], own[_POSITIONS]
    patch = network.config.patch_size
    grid_hw = network.config.grid_hw
    if file_crop_hw is not None:
        old_hw = [side // patch for side in file_crop_hw]
    else:
        side = round(positions.shape[1] ** 0.5)
        old_hw = [side, side] if side * side == positions.shape[1] != wanted.shape[1] else list(grid_hw)
    state = dict(state)
    if old_hw != list(grid_hw) and positions.shape[1] == old_hw[0] * old_hw[1]:
        state[_POSITIONS] = resample_abs_pos_embed(positions, list(grid_hw), old_hw, num_prefix_tokens=0)
    for constant in ("encoder.pixel_mean", "encoder.pixel_std"):
        state.setdefault(constant, own[constant])  # Transformers keeps them in its image processor
    _load_strictly(network, state, "network.")


def _load_strictly(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    own = module.state_dict()
    problems = [f"{prefix}{key} is missing" for key in own if key not in state]
    problems += [f"{prefix}{key} is unexpected" for key in state if key not in own]
    problems += [
        f"{prefix}{key} must have shape {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError("its weights do not fit: " + "; ".join(problems[:4]) + more)
    broken = [prefix + key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"its weights are not finite: {', '.join(broken[:4])}")
    module.load_state_dict(dict(state))
