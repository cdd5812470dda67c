"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; rename it when the block ends well, else remove it.

    The temporary name keeps the suffix, since many writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, whole or not at all."""
    from safetensors.torch import save_file  # with torch, which few writers of files need

    with whole_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        parts = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(parts, temporary, metadata=None if metadata is None else dict(metadata))
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
