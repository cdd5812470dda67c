"""Safe reading of tensors from files: without executing anything in them, and in no more memory than the file size."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.layouts.lightly import SETTINGS, WEIGHTS, is_lightly, settings_text
from eomt_ext_core.model.layouts.sort import without_wrappers
from eomt_ext_core.model.pickles import check_archive, check_legacy, is_archive

INDEX = "model.safetensors.index.json"
_MOST_INDEX_BYTES = 16 << 20
_MOST_SHARDS = 1000
_MOST_NESTED = 4
# Names under which training tools keep a network beside an optimizer, or one network beside another.
_CONTAINERS = (
    "state_dict", "model_state_dict", "model", "module", "network", "ema", "model_ema", "ema_state_dict",
    "state_dict_ema", "teacher", "student", WEIGHTS,
)  # fmt: skip
_AVERAGES = ("ema", "model_ema", "ema_state_dict", "state_dict_ema", "teacher")
_GIT_LFS = b"version https://git-lfs"
_NUMBERS = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.bool,
)  # fmt: skip


def read_tensors(path: Path, weights: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict.

    Args:
        path: ``.safetensors``; ``model.safetensors.index.json``, of a model in shards; whatever else it ends in, a
            file of PyTorch with a state dict, alone or in a container such as ``state_dict`` or ``ema``.
        weights: the name of the container, if there are several.

    Returns:
        tensors by name, on the CPU, which may be views of the file; and texts by name, the metadata of a safetensors
        file or the settings of lightly-train.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign, or has more than tensors. The message does not name
            the file.
    """
    if not path.is_file():
        raise CheckpointError("it must be a regular file")
    with path.open("rb") as file:
        if file.read(len(_GIT_LFS)) == _GIT_LFS:
            raise CheckpointError("it is a pointer of Git LFS: fetch the file with `git lfs pull`")
    if path.name.endswith(".index.json"):
        return _read_shards(path), {}
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        content = _read_pickle(path)
        state, metadata = _state_dict_of(content, weights), {}
        described, plain = content.get(SETTINGS), {without_wrappers(key): value for key, value in state.items()}
        if isinstance(described, Mapping) and is_lightly(plain):
            metadata = {SETTINGS: settings_text(described)}
    _check_tensors(state, path.stat().st_size)
    return state, metadata


def tensor_files(path: Path) -> tuple[Path, ...]:
    """Name the files that :func:`read_tensors` reads: the file itself, and the shards that an index names.

    Raises:
        CheckpointError: if the index is damaged.
    """
    shards = sorted(set(_homes(path).values())) if path.name.endswith(".index.json") else []
    return path, *(path.parent / name for name in shards)


def _homes(index: Path) -> dict[str, str]:
    """The name of the shard of each tensor, as an index of Transformers says."""
    if index.stat().st_size > _MOST_INDEX_BYTES:
        raise CheckpointError(f"its index must have at most {_MOST_INDEX_BYTES} bytes, got {index.stat().st_size}")
    try:
        homes = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"its index must be JSON with a weight_map: {_reason(error)}") from error
    if not isinstance(homes, dict) or not all(isinstance(name, str) for name in homes.values()):
        raise CheckpointError("the weight_map of its index must name a file for each tensor")
    names = set(homes.values())
    if len(names) > _MOST_SHARDS:
        raise CheckpointError(f"it must be in at most {_MOST_SHARDS} shards, got {len(names)}")
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"a shard must be a .safetensors file beside the index, got {name!r}")
    return homes


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all shards, each from the file that the index names."""
    homes = _homes(index)
    state: dict[str, Tensor] = {}
    for name in sorted(set(homes.values())):
        shard, _ = read_tensors(index.parent / name)
        state |= {key: value for key, value in shard.items() if homes.get(key) == name}
    missing = sorted(homes.keys() - state.keys())
    if missing:
        raise CheckpointError(f"{homes[missing[0]]} lacks {missing[0]}, which the index places there")
    return state


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(f"not a readable safetensors file (truncated?): {error}") from error
    except Exception as error:  # types that torch does not have raise various exceptions
        raise CheckpointError(f"not a readable safetensors file: {_reason(error)}") from error


def _read_pickle(path: Path) -> Any:
    try:
        archive = is_archive(path)
        if archive:
            check_archive(path)
        else:
            check_legacy(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "it holds Python objects besides tensors, which are never executed here. Save its 'state_dict' alone if "
            f"you trust it. {_reason(error)}"
        ) from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"not a PyTorch checkpoint, or a truncated one: {error}") from error
    except Exception as error:  # a damaged pickle can raise any exception
        raise CheckpointError(f"not a PyTorch checkpoint, or a truncated one: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _state_dict_of(content: Any, weights: str | None, depth: int = _MOST_NESTED) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it must hold a state dict (names to tensors), got {type(content).__name__}")
    inside = [name for name in _CONTAINERS if isinstance(content.get(name), Mapping) and content[name]]
    if "state_dict" in inside and weights is None:
        inside = [name for name in inside if name == "state_dict" or name in _AVERAGES]
    if weights in inside:
        return _state_dict_of(content[weights], None, depth - 1)
    if len(inside) > 1 and weights is not None:
        raise CheckpointError(f"it holds no {weights!r}, but {', '.join(inside)}")
    if len(inside) > 1:
        raise CheckpointError(
            f"it holds several networks, {', '.join(inside)}: name one of them (`eomt-ext convert --weights "
            f"{inside[-1]}`)"
        )
    if inside and depth:
        return _state_dict_of(content[inside[0]], weights, depth - 1)
    if weights is not None:
        raise CheckpointError(f"it holds no {weights!r}: leave the name of the weights out")
    others = [f"{key} is {type(value).__name__}" for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"it must hold a state dict (names to tensors), but {', '.join(others[:4])}")
    return {str(key): value for key, value in content.items()}


def _check_tensors(state: Mapping[str, Tensor], file_bytes: int) -> None:
    """Raise ``CheckpointError`` for tensors of other types than weights, and for views that repeat numbers."""
    total = 0
    for key, value in state.items():
        if value.dtype not in _NUMBERS or value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(f"{key} must be a plain tensor of numbers, got {value.dtype} {value.layout}")
        total += math.prod(value.shape) * value.element_size()
    if total > file_bytes:
        raise CheckpointError(f"its tensors have {total} bytes, but the file only {file_bytes}")
