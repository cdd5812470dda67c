import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from eomt_ext_training.data.augmentation import Augmented
from eomt_ext_training.data.fingerprint import fingerprint_of
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.feature_cache import CacheSettings, FeatureCache, FrozenSample, cache_key
from torch.utils.data import Dataset

from eomt_ext_core import DatasetError, load_model


class NoiseImages(Dataset[Sample]):
    """Random images; counts how many were asked for, and can fail at one of them."""

    def __init__(self, count: int = 5, seed: int = 0, broken: int | None = None, size_hw: tuple[int, int] = (64, 96)):
        self.count, self.seed, self.broken, self.size_hw = count, seed, broken, size_hw
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise KeyboardInterrupt
        self.asked.append(index)
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        image = torch.randint(256, (3, *self.size_hw), generator=generator, dtype=torch.uint8)
        return Sample(image, torch.full(self.size_hw, index, dtype=torch.uint8), str(index))

    def fingerprint(self) -> str:
        return fingerprint_of((self.count, self.seed))


@pytest.fixture
def network(tiny_network: Path):
    return load_model(tiny_network).network


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(tmp_path / "features", limit_gb=0.01, batch_size=2, bf16=False)


@pytest.fixture
def complete(network, settings) -> Callable[[NoiseImages], FeatureCache]:
    def make(samples: NoiseImages) -> FeatureCache:
        cache = FeatureCache(network, samples, settings)
        assert sum(cache.compute(network, cache.missing())) == len(samples.asked)
        return cache

    return make


def test_holds_what_the_network_says_rounded_once(network, complete) -> None:
    samples = NoiseImages()
    cache = complete(samples)
    assert cache.missing() == []
    for index in (0, 3):
        stored = cache[index]
        with torch.no_grad():
            outputs = network(samples[index].image[None].float() / 255)
        for own, output in zip(stored, outputs, strict=False):
            torch.testing.assert_close(own.float(), output[0], atol=1e-4, rtol=2**-8)
        assert stored.labels.equal(samples[index].labels)


def test_interrupted_computation_goes_on(network, settings, complete) -> None:
    broken = NoiseImages(broken=3)
    cache = FeatureCache(network, broken, settings)
    with pytest.raises(KeyboardInterrupt):
        list(cache.compute(network, cache.missing()))
    assert cache.missing() == [2, 3, 4]
    assert not [path for path in cache.folder.iterdir() if ".part" in path.name]
    again = NoiseImages()
    assert complete(again).folder == cache.folder
    assert again.asked == [2, 3, 4]


def test_other_model_data_or_arithmetic_has_another_key(network, complete) -> None:
    cache = complete(NoiseImages())
    key = cache_key(network, NoiseImages(), bf16=False)
    assert cache.folder.name == key
    assert cache_key(network, NoiseImages(seed=1), bf16=False) != key
    assert cache_key(network, NoiseImages(), bf16=True) != key
    assert cache_key(network, Augmented(NoiseImages(), copies=1), bf16=False) != key
    with torch.no_grad():
        network.class_head.bias[0] += 1e-6
    assert cache_key(network, NoiseImages(), bf16=False) != key


def test_stale_file_is_refused(network, complete) -> None:
    old, new = complete(NoiseImages()), complete(NoiseImages(seed=1))
    os.replace(old.folder / "0000001.safetensors", new.folder / "0000001.safetensors")
    assert isinstance(new[0], FrozenSample)
    with pytest.raises(DatasetError, match="belongs to another model or other data"):
        new[1]
    (new.folder / "0000002.safetensors").write_bytes(b"cut off")
    with pytest.raises(DatasetError, match="cannot be read: remove it"):
        new[2]


def test_limit_counts_all_caches(network, tmp_path: Path) -> None:
    samples = NoiseImages()
    bytes_each = 2 * (6 * 16 * 24 + 6 * 6 + 32 * 4 * 6) + 64 * 96
    settings = CacheSettings(tmp_path / "features", limit_gb=1.5 * 5 * bytes_each / 1e9, batch_size=2)
    cache = FeatureCache(network, samples, settings)
    list(cache.compute(network, cache.missing()))
    second = FeatureCache(network, NoiseImages(seed=1), settings)
    with pytest.raises(DatasetError, match="within limit_gb"):
        list(second.compute(network, second.missing()))
    assert not list(second.folder.glob("*"))
    assert cache.missing() == []


def test_sample_of_another_size_is_refused(network, settings) -> None:
    cache = FeatureCache(network, NoiseImages(size_hw=(64, 64)), settings)
    with pytest.raises(DatasetError, match=r"crop size \(64, 96\), got \(64, 64\) from 0"):
        list(cache.compute(network, cache.missing()))


def test_fingerprint_of_files_and_sources(tmp_path: Path) -> None:
    import eomt_ext_core.scenes as scenes

    image = tmp_path / "image.png"
    image.write_bytes(b"one")
    first = fingerprint_of("settings", [image])
    assert fingerprint_of("settings", [image]) == first
    image.write_bytes(b"three")
    assert fingerprint_of("settings", [image]) != first
    os.utime(image, ns=(1, 1))
    touched = fingerprint_of("settings", [image])
    os.utime(image, ns=(2, 2))
    assert fingerprint_of("settings", [image]) != touched
    assert fingerprint_of("settings") != fingerprint_of("settings", generators=[scenes])
