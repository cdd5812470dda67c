"""Outputs of a frozen network for a data set, computed once and cached on disk.

A folder for each pair of model and data, named by a digest of both; a file for each sample, which appears whole or not
at all. So an interrupted computation continues where it stopped, and outputs of another model or other data are never
taken. A file that a disk has cut short counts as not there, and one whose bytes have changed is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, cast

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import save_tensors
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.model import eomt, upscale, vit
from eomt_ext_core.model.eomt import EoMT, Prediction
from eomt_ext_training.data.sample import AnomalyDataset, Sample

_FORMAT = 2
_BYTES_PER_GB = 1e9
_LEFT_BEHIND_S = 86400.0  # a file takes far less than this to be written


class FrozenSample(NamedTuple):
    """A training sample of the head: the frozen network's outputs for a crop, and its labels.

    Attributes:
        mask_logits: (Q, h, w) bfloat16.
        class_logits: (Q, C + 1) bfloat16.
        features: (C, h', w') bfloat16.
        labels: (H, W) uint8.
    """

    mask_logits: Tensor
    class_logits: Tensor
    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class CacheSettings:
    """Settings of the cache of frozen outputs.

    ``folder`` holds all caches; ``limit_gb`` bounds what they take together, in 10⁹ bytes; ``bf16`` runs the network
    in bfloat16 (what is stored is bfloat16 in any case).
    """

    folder: Path = Path("runs/features")
    limit_gb: float = 50.0
    batch_size: int = 4
    bf16: bool = True


class FeatureCache(Dataset[FrozenSample]):
    """The frozen outputs of a network for each sample of a data set.

    Args:
        network: frozen, on the device to run on.
        samples: the data set.
        settings: of the cache.

    Attributes:
        folder: of this network and these data.
    """

    def __init__(self, network: EoMT, samples: AnomalyDataset, settings: CacheSettings) -> None:
        self._samples = samples
        self._settings = settings
        self._key = cache_key(network, samples, settings.bf16)
        self._bytes_per_sample = _bytes_per_sample(network)
        self.folder = settings.folder / self._key

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> FrozenSample:
        path = self._path(index)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self._key:
                    raise DatasetError(f"{path} belongs to another model or other data: remove it and start again")
                sample = FrozenSample._make(file.get_tensor(name) for name in FrozenSample._fields)
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"{path} cannot be read: remove it to compute it again: {error}") from error
        if about.get("crc32") != _checksum(sample):
            raise DatasetError(f"{path} is damaged, its checksum differs: remove it to compute it again")
        return sample

    def missing(self) -> list[int]:
        """Return the indices of the samples with missing or incomplete outputs."""
        # from one listing: a shared disk may cache that a single file does not exist
        stored = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        paths = map(self._path, range(len(self)))
        return [index for index, path in enumerate(paths) if path.name not in stored or not self._has_its_length(path)]

    @torch.no_grad()
    def compute(self, network: EoMT, indices: Iterable[int], num_workers: int = 0) -> Iterable[int]:
        """Compute the outputs of some samples; yields the number written for each batch.

        Raises:
            DatasetError: if all caches together would exceed the limit, or a sample has not the size of the crop.
        """
        indices = list(indices)
        if indices:
            hold_to_limit([self])
        device = network.q.weight.device
        subset = Subset(cast("Dataset[Sample]", self._samples), indices)
        loader = DataLoader(subset, batch_size=self._settings.batch_size, num_workers=num_workers)
        done = 0
        for images, labels, keys in loader:
            crop_hw = network.config.crop_hw
            if tuple(images.shape[2:]) != crop_hw:
                raise DatasetError(
                    f"samples must be of the model's crop size {crop_hw}, got {tuple(images.shape[2:])} from "
                    f"{keys[0]}: set crop_hw of the data to {list(crop_hw)}"
                )
            with torch.autocast(device.type, torch.bfloat16, enabled=self._settings.bf16):
                prediction = network(images.to(device).float() / 255)
            outputs = Prediction(*(part.to("cpu", torch.bfloat16) for part in prediction))
            for row in range(len(images)):
                sample = FrozenSample._make(part[row] for part in (*outputs, labels))
                self._write(indices[done], sample)
                done += 1
            yield len(images)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:07d}.safetensors"

    def _has_its_length(self, path: Path) -> bool:
        try:
            with open(path, "rb") as file:
                header = int.from_bytes(file.read(8), "little")  # length of the header before the tensors
                return os.fstat(file.fileno()).st_size == 8 + header + self._bytes_per_sample
        except FileNotFoundError:
            return True  # listed, but not yet visible on a shared disk

    def _write(self, index: int, sample: FrozenSample) -> None:
        # cloned, as safetensors refuses rows that share the memory of their batch
        parts = {name: part.clone(memory_format=torch.contiguous_format) for name, part in sample._asdict().items()}
        save_tensors(self._path(index), parts, {"key": self._key, "crc32": _checksum(parts.values())})


def hold_to_limit(caches: Sequence[FeatureCache]) -> None:
    """Check that the future content of some caches fits into their folder, and remove old half-written files.

    Raises:
        DatasetError: if they would exceed the limit together with the other caches, or the disk.
    """
    folders = {cache.folder: cache for cache in caches}
    caches, settings = list(folders.values()), caches[0]._settings
    root = settings.folder
    root.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(root)
    own = sum(cache._bytes_per_sample * len(cache) for cache in caches)
    stored = sum(cache._bytes_per_sample * (len(cache) - len(cache.missing())) for cache in caches)
    others = sum(_size(path) for path in root.glob("*/[0-9]*.safetensors") if path.parent not in folders)
    needed = f"the frozen outputs of {sum(map(len, caches))} samples take {own / _BYTES_PER_GB:.3g} GB"
    if own + others > settings.limit_gb * _BYTES_PER_GB:
        raise DatasetError(
            f"{needed} and other caches in {root} {others / _BYTES_PER_GB:.3g} GB, which must stay within "
            f"limit_gb = {settings.limit_gb:g}: raise it, remove folders of {root}, take fewer samples, or "
            "train without cache"
        )
    free = shutil.disk_usage(root).free + stored
    if own > free:
        raise DatasetError(f"{needed}, the disk of {root} has {free / _BYTES_PER_GB:.3g} GB free")


def cache_key(network: EoMT, samples: AnomalyDataset, bf16: bool) -> str:
    """Digest everything that determines frozen outputs: weights, architecture, code, arithmetic and data."""
    parts = {
        "format": _FORMAT,
        "network": network_digest(network),
        "data": samples.fingerprint(),
        "bf16": bf16,
        "libraries": {"torch": str(torch.__version__), "timm": timm.__version__},
    }
    return fingerprint_of(json.dumps(parts, sort_keys=True), generators=[eomt, upscale, vit])


def network_digest(network: EoMT) -> str:
    """Digest the architecture and weights of a network."""
    digest = hashlib.sha256(json.dumps(asdict(network.config), sort_keys=True, default=str).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _checksum(parts: Iterable[Tensor]) -> str:
    """Compute the CRC-32 of the concatenated bytes of tensors."""
    value = 0
    for part in parts:
        value = zlib.crc32(part.contiguous().flatten().view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _bytes_per_sample(network: EoMT) -> int:
    """Compute the bytes of the tensors of a :class:`FrozenSample`."""
    config, (num_queries, dim) = network.config, network.q.weight.shape
    positions = math.prod(config.grid_hw)
    per_query = positions * 4 ** len(network.upscale) + config.num_classes + 1
    numbers: int = num_queries * per_query + dim * positions
    return numbers * torch.bfloat16.itemsize + math.prod(config.crop_hw)


def _size(path: Path) -> int:
    """Return the size of a file; 0 if another run has removed it."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _remove_left_behind(root: Path) -> None:
    """Remove half-written files of killed runs."""
    for path in root.glob("*/.*.part.safetensors"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                path.unlink()
