"""Safe reading of tensors from files: without executing anything in them, and in no more memory than the file size."""

from __future__ import annotations

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
from eomt_ext_core.model.pickles import check_archive, check_legacy, is_archive

_GIT_LFS = b"version https://git-lfs"
_NUMBERS = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.bool,
)  # fmt: skip


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict.

    Args:
        path: ``.safetensors``; with any other suffix, a file of PyTorch with a state dict, alone or as ``state_dict``.

    Returns:
        tensors by name, on the CPU, which may be views of the file; and the metadata of a safetensors file, texts by
        name.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign, or has more than tensors. The message does not name
            the file.
    """
    if not path.is_file():
        raise CheckpointError("it must be a regular file")
    with path.open("rb") as file:
        if file.read(len(_GIT_LFS)) == _GIT_LFS:
            raise CheckpointError("it is a pointer of Git LFS: fetch the file with `git lfs pull`")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _state_dict_of(_read_pickle(path)), {}
    _check_tensors(state, path.stat().st_size)
    return state, metadata


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


def _state_dict_of(content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it must hold a state dict (names to tensors), got {type(content).__name__}")
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
