"""Load, save and convert models; loading is strict and never executes anything from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eomt_ext_core.config import DEMO, HUB_SCHEME, HeadConfig, ModelConfig
from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.files import expanded, save_tensors
from eomt_ext_core.model.architecture import infer_head_config, infer_model_config
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.model.foreign import refuse_foreign, refuse_foreign_folder
from eomt_ext_core.model.layouts import Weights, sort_weights
from eomt_ext_core.model.layouts.dinov3 import add_base, add_to_probabilities, is_delta
from eomt_ext_core.model.layouts.lightly import SETTINGS, is_lightly, read_settings
from eomt_ext_core.model.layouts.sort import without_wrappers
from eomt_ext_core.model.metadata import VERSION, check_info, read_json, read_own, write_json
from eomt_ext_core.model.positions import POSITIONS, check_square, resample_positions
from eomt_ext_core.model.transformers_folder import PREPROCESSOR, read_normalisation, read_transformers
from eomt_ext_core.model.vit import IMAGENET_MEAN, IMAGENET_STD
from eomt_ext_core.model.weight_files import INDEX, read_tensors, tensor_files
from eomt_ext_core.scoring.anomaly_head import check_head
from eomt_ext_core.scoring.probe import PROBE, without_head

_METADATA_KEY = "eomt_ext"
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_NOT_STORED = "trained_crop_hw"  # saved positions are those of crop_hw


def load_model(
    source: str | Path,
    config: ModelConfig | Mapping[str, Any] | None = None,
    *,
    head: str | Path | None = None,
    base: str | Path | None = None,
    weights: str | None = None,
    download: bool = True,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> EoMTExt:
    """Load an EoMT or EoMT-EXT, ready for inference.

    Reads our own safetensors, official EoMT state dicts (``.bin``, ``.pth``, Lightning ``.ckpt``), EoMT-EXT
    checkpoints with either form of head, folders of Hugging Face Transformers, in shards too, and exported models of
    lightly-train; all on DINOv2 and on DINOv3. All sizes are compared before a network is made.

    Args:
        source: a file, a folder, ``hf://owner/name`` (downloaded through huggingface_hub), or ``demo``.
        config: the architecture, or the fields of it that the file does not determine. A ``crop_hw`` other than the
            file's resamples the position embedding; an official file trained at a window that is not square needs
            ``trained_crop_hw``, which is not in the file.
        head: a separate file with the anomaly head.
        base: the DINOv3 to add to a file with differences, as EoMT publishes its models on DINOv3.
        weights: name of one of several networks in the file, such as ``ema``.
        download: whether ``hf://owner/name`` is allowed.
        device: of the model.
        dtype: type of its parameters.

    Returns:
        the model in eval mode; its ``info`` has the metadata of the checkpoint.

    Raises:
        CheckpointError: if a file is missing, damaged, foreign, mismatched, or leaves the architecture open. The
            message names the file and the first offending keys.
    """
    read = read_checkpoint(source, config, head=head, base=base, weights=weights, download=download)
    try:
        with torch.device("meta"):  # takes no memory before the sizes in the file are compared
            model = EoMTExt(replace(read.config, trained_crop_hw=None), read.head_config)
        _load_network(model.network, read.network, read.config.trained_crop_hw or read.config.crop_hw)
        if model.anomaly_head is not None:
            _load_strictly(model.anomaly_head, read.head, "anomaly_head.")
            check_head(model.anomaly_head)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{read.path}: {error}") from error
    model.info = dict(read.info)
    return model.to(device=device, dtype=dtype).eval()


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds; its weights are not compared with the architecture yet.

    Attributes:
        path: the file.
        config: the architecture; ``trained_crop_hw`` is the window of the position embedding if that differs.
        head_config: form of the anomaly head, None without one.
        network: official names without ``network.``.
        head: tensors of the anomaly head.
        info: checked metadata.
        files: all that was read: weights, shards, and settings beside them.
    """

    path: Path
    config: ModelConfig
    head_config: HeadConfig | None
    network: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    info: Mapping[str, Any]
    files: tuple[Path, ...]


def read_checkpoint(
    source: str | Path,
    config: ModelConfig | Mapping[str, Any] | None = None,
    *,
    head: str | Path | None = None,
    base: str | Path | None = None,
    weights: str | None = None,
    download: bool = True,
) -> Checkpoint:
    """Read what :func:`load_model` makes a network of, with its arguments and errors, and make none."""
    path = resolve_source(source, download=download)
    head_path = None if head is None else resolve_source(head, download=download)
    head_state = None if head_path is None else _read_head(head_path)
    try:
        state, metadata, settings = _read(path, weights)
        files = (*tensor_files(path), *settings, *(() if head_path is None else tensor_files(head_path)))
        found = sort_weights(state, is_own="version" in metadata)
        if not found.network and found.head:
            raise CheckpointError("it holds only an anomaly head: give it as head, on top of a model")
        found = _absolute(found, None if base is None else resolve_source(base, download=download))
        known = _merge_config(metadata.get("model", {}), config)
        model_config = infer_model_config(found.network, found.attn_mask_probs, known)
        if known.get("trained_crop_hw") is None and POSITIONS in found.network:
            check_square(found.network[POSITIONS], model_config.patch_size)
        info = check_info(metadata.get("info", {}), model_config.num_classes)
        own_head = head_state is None
        if head_state is None:
            head_state = found.head
        head_config = None
        if head_state:
            head_config = infer_head_config(head_state, found.network["q.weight"].shape[-1])
            if own_head and metadata.get("head"):
                head_config = replace(head_config, dropout=metadata["head"]["dropout"])
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    info = info if own_head else without_head(info)
    if list(model_config.crop_hw) != metadata.get("model", {}).get("crop_hw"):
        info.pop(PROBE, None)  # it belongs to the window in the file
    return Checkpoint(path, model_config, head_config, found.network, head_state, info, files)


def save_model(model: EoMTExt, path: str | Path, probe: Mapping[str, Any] | None = None) -> None:
    """Write a model as one safetensors file with its architecture and ``model.info`` in the metadata.

    The file is written atomically.

    Args:
        model: to be saved.
        path: of the file.
        probe: its known answer, from :func:`~eomt_ext_core.engine.probing.make_probe`. One in ``model.info`` is not
            written: the weights may have changed since it was loaded.

    Raises:
        CheckpointError: if ``path`` does not end in ``.safetensors``, or ``model.info`` holds more than JSON values.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a model is saved as .safetensors, got {path.name!r}")
    info = {name: value for name, value in model.info.items() if name != PROBE}
    if probe is not None:
        info[PROBE] = dict(probe)
    metadata = {
        "version": VERSION,
        "model": {name: value for name, value in asdict(model.config).items() if name != _NOT_STORED},
        "head": None if model.anomaly_head is None else asdict(model.anomaly_head.config),
        "info": info,
    }
    try:
        described = write_json(metadata)
        check_info(info, model.config.num_classes)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    save_tensors(path, model.state_dict(), {_METADATA_KEY: described})


def resolve_source(source: str | Path, *, download: bool = True) -> Path:
    """Return the file of a source of :func:`load_model`; for a folder, its weights.

    Args:
        source: as for :func:`load_model`.
        download: whether ``hf://owner/name`` is allowed, and mentioned in errors.

    Raises:
        CheckpointError: if it does not exist, is plainly something else, or a download is needed but not allowed.
    """
    text = str(source)
    if text == DEMO:
        return Path(str(resources.files("eomt_ext_core") / "assets" / "demo.safetensors"))
    if text.startswith(HUB_SCHEME):
        if not download:
            raise CheckpointError(f"{text}: nothing is downloaded here: give a local file or folder")
        return _download(text)
    ways = "a checkpoint, hf://owner/name or 'demo'" if download else "a local checkpoint or 'demo'"
    if "://" in text:
        raise CheckpointError(f"{text}: nothing is downloaded from there: fetch it yourself, or give {ways}")
    path = expanded(text)
    if not text or not path.exists():
        raise CheckpointError(f"{text and path}: no such file or folder; give {ways}".removeprefix(": "))
    if path.is_dir():
        for name in _FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        if (path / INDEX).is_file():
            return path / INDEX
        refuse_foreign_folder(path)
        raise CheckpointError(f"{path}: a model folder must hold {' or '.join(_FOLDER_FILES)}")
    refuse_foreign(path)
    return path


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = source.removeprefix(HUB_SCHEME)
    try:
        folder = snapshot_download(name, allow_patterns=["*config.json", INDEX, "model-*.safetensors", *_FOLDER_FILES])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{source}: could not be downloaded: {error}") from error
    return resolve_source(folder)


def _read(path: Path, weights: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any], tuple[Path, ...]]:
    """Read the tensors of a file, and the architecture in its metadata or in the files beside it, which are named."""
    if path.suffix in (".onnx", ".pt2"):
        raise CheckpointError("an exported file is not a checkpoint: ONNX runs with backend onnxruntime or openvino")
    state, texts = read_tensors(path, weights)
    if _METADATA_KEY in texts:
        return state, read_own(texts[_METADATA_KEY]), ()
    plain = {without_wrappers(key): value for key, value in state.items()}
    if is_lightly(plain):
        described, constants = read_settings(plain, read_json(texts.get(SETTINGS, "{}")))
        return {**constants, **state}, described, ()
    config_path = path.parent / "config.json"
    if not config_path.is_file():
        return state, {}, ()
    in_transformers_layout = any(key.startswith("embeddings.") for key in state)
    described = read_transformers(config_path, required=in_transformers_layout)
    if not described:
        return state, {}, ()
    if not in_transformers_layout:
        return state, described, (config_path,)
    normalisation = path.parent / PREPROCESSOR
    files = (config_path, *([normalisation] if normalisation.is_file() else []))
    return {**read_normalisation(path.parent), **state}, described, files


def _absolute(found: Weights, base: Path | None) -> Weights:
    """Add the base to a published model on DINOv3, which consists of differences."""
    if base is None:
        if is_delta(found.network):
            raise CheckpointError(
                "it has differences to the weights of a DINOv3 instead of weights: pass those too "
                "(`eomt-ext convert --base`; of the same size, from facebook/dinov3-vit*16-pretrain-lvd1689m)"
            )
        return found
    state, _ = read_tensors(base)
    return replace(
        found, network=add_base(found.network, state), attn_mask_probs=add_to_probabilities(found.attn_mask_probs)
    )


def _read_head(path: Path) -> dict[str, Tensor]:
    try:
        head = sort_weights(_read(path)[0]).head
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not head:
        raise CheckpointError(f"{path} holds no anomaly head ('mlp.*' or 'anomaly_head.*')")
    return head


def _merge_config(stored: Mapping[str, Any], given: ModelConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge the settings of the file and of the caller, which must agree on those used in training."""
    if isinstance(given, ModelConfig):
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    given = {name: value for name, value in (given or {}).items() if value is not None}
    _check_agreement(stored, given, ("backbone", "num_blocks"), "")
    _check_windows_agree(stored, given)
    merged = {**stored, **given}
    stored_overrides, given_overrides = (_mapping(side.get("backbone_overrides", {})) for side in (stored, given))
    _check_agreement(stored_overrides, given_overrides, tuple(stored_overrides), "backbone_overrides ")
    merged["backbone_overrides"] = stored_overrides | given_overrides
    return merged


def _check_agreement(stored: Mapping[str, Any], given: Mapping[str, Any], names: tuple[str, ...], prefix: str) -> None:
    for name in names:
        if name in stored and name in given and stored[name] != given[name]:
            raise CheckpointError(f"{prefix}{name} is {stored[name]!r} in the file, but {given[name]!r} is given")


def _check_windows_agree(stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    sides = [side["trained_crop_hw"] for side in (stored, given) if "trained_crop_hw" in side]
    lists = [list(side) if isinstance(side, list | tuple) else side for side in sides]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise CheckpointError(f"trained_crop_hw is {sides[0]} in the file, but {sides[1]} is given: leave it out")


def _mapping(overrides: Any) -> dict[str, Any]:
    if not isinstance(overrides, Mapping):
        raise CheckpointError(f"backbone_overrides must be a mapping of names to numbers, got {overrides!r}")
    return dict(overrides)


def _load_network(network: EoMT, state: Mapping[str, Tensor], trained_crop_hw: tuple[int, int]) -> None:
    """Load strictly, but resample the position embedding if its window differs."""
    patch_size = network.config.patch_size
    old_grid_hw = (trained_crop_hw[0] // patch_size, trained_crop_hw[1] // patch_size)
    state = {
        "encoder.pixel_mean": torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1),  # Transformers keeps them elsewhere
        "encoder.pixel_std": torch.tensor(IMAGENET_STD).view(1, 3, 1, 1),
        **state,
    }
    own = network.state_dict()
    if POSITIONS in own:
        positions = state[POSITIONS]
        wanted = (1, old_grid_hw[0] * old_grid_hw[1], own[POSITIONS].shape[-1])
        if positions.shape != wanted:
            raise CheckpointError(f"network.{POSITIONS} must have shape {wanted}, got {tuple(positions.shape)}")
        others = {key: value for key, value in state.items() if key != POSITIONS}
        _check_fit({key: value for key, value in own.items() if key != POSITIONS}, others, "network.")
        state[POSITIONS] = resample_positions(positions, old_grid_hw, network.config.grid_hw)
    _load_strictly(network, state, "network.")


def _load_strictly(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Load tensors into a module on the meta device, as float32 copies."""
    _check_fit(module.state_dict(), state, prefix)
    broken = [prefix + key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"its weights are not finite: {', '.join(broken[:4])}")
    copies = {
        key: value.to(torch.float32, copy=True, memory_format=torch.contiguous_format) for key, value in state.items()
    }
    module.load_state_dict(copies, assign=True)


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str) -> None:
    problems = [f"{prefix}{key} is missing" for key in own if key not in state]
    problems += [f"{prefix}{key} is unexpected" for key in state if key not in own]
    problems += [
        f"{prefix}{key} must have shape {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems += [
        f"{prefix}{key} must hold floating-point numbers, got {state[key].dtype}"
        for key in own
        if key in state and not state[key].is_floating_point()
    ]
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError("its weights do not fit: " + "; ".join(problems[:4]) + more)
