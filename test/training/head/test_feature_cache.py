import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.data.augmentation import Augmented
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.head.feature_cache import CacheSettings, FeatureCache, FrozenSample, cache_key
from safetensors.torch import load
from torch.utils.data import Dataset

from eomt_ext_core import DatasetError, load_model
from eomt_ext_core.fingerprint import fingerprint_of


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
        return Sample(image, torch.full(self.size_hw, index % 2, dtype=torch.uint8), str(index))

    def fingerprint(self) -> str:
        return fingerprint_of((self.count, self.seed))


BYTES_EACH = 2 * (6 * 16 * 24 + 6 * 6 + 32 * 4 * 6) + 64 * 96


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
    for library in ("torch", "timm"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{library}.__version__", "0.0.1")
            assert cache_key(network, NoiseImages(), bf16=False) != key
    assert cache_key(network, NoiseImages(), bf16=False) == key
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


def test_truncated_files_are_computed_again(network, settings, complete) -> None:
    cache = complete(NoiseImages())
    paths = [cache.folder / f"{index:07d}.safetensors" for index in range(5)]
    whole = [path.read_bytes() for path in paths]
    paths[1].write_bytes(b"")
    paths[2].write_bytes(whole[2][:4])
    paths[4].write_bytes(whole[4][:-1])
    assert cache.missing() == [1, 2, 4]
    again = NoiseImages()
    list(FeatureCache(network, again, settings).compute(network, cache.missing()))
    assert again.asked == [1, 2, 4]
    assert [load(path.read_bytes()).keys() for path in paths] == [load(content).keys() for content in whole]
    for path, content in zip(paths, whole, strict=True):
        for name, tensor in load(content).items():  # the order of what a header says is not fixed
            assert torch.equal(load(path.read_bytes())[name], tensor)


@pytest.mark.parametrize("part", range(4))
def test_a_file_with_a_changed_byte_is_refused(complete, part: int) -> None:
    cache = complete(NoiseImages())
    path = cache.folder / "0000003.safetensors"
    content = bytearray(path.read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    content[data + part * (len(content) - data) // 4] ^= 1
    path.write_bytes(content)
    assert cache.missing() == []
    with pytest.raises(DatasetError, match=r"0000003\.safetensors is damaged, its checksum differs: remove it"):
        cache[3]


def test_limit_counts_all_caches(network, tmp_path: Path) -> None:
    samples = NoiseImages()
    settings = CacheSettings(tmp_path / "features", limit_gb=1.5 * 5 * BYTES_EACH / 1e9, batch_size=2)
    cache = FeatureCache(network, samples, settings)
    list(cache.compute(network, cache.missing()))
    second = FeatureCache(network, NoiseImages(seed=1), settings)
    with pytest.raises(DatasetError, match="within limit_gb"):
        list(second.compute(network, second.missing()))
    assert not list(second.folder.glob("*"))
    assert cache.missing() == []


def test_planned_bytes_are_those_stored(complete) -> None:
    cache = complete(NoiseImages())
    assert cache._bytes_per_sample == BYTES_EACH == sum(part.numel() * part.element_size() for part in cache[0])


def test_vanishing_file_counts_nothing(network, complete, settings) -> None:
    """Another run renames its half-written file, or removes its cache, between listing and looking."""
    other = complete(NoiseImages(seed=1)).folder
    (other / "0000009.safetensors").symlink_to(other / "gone")  # listed, but not to be found
    (other / ".0000010.1.part.safetensors").symlink_to(other / "gone")
    cache = FeatureCache(network, NoiseImages(), settings)
    assert sum(cache.compute(network, cache.missing())) == 5


def test_half_written_files_are_removed_after_a_day(network, complete, settings) -> None:
    other = complete(NoiseImages(seed=1)).folder
    old, new = other / ".0000009.1.part.safetensors", other / ".0000010.1.part.safetensors"
    for path, age_s in ((old, 25 * 3600), (new, 3600)):
        path.write_bytes(b"half")
        os.utime(path, times=(time.time() - age_s,) * 2)
    complete(NoiseImages())
    assert not old.exists()
    assert new.exists()


def test_files_are_for_whom_other_files_are(complete, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    stored = complete(NoiseImages()).folder / "0000000.safetensors"
    assert stored.stat().st_mode == (tmp_path / "other").stat().st_mode


# -- as the data module fills it ---------------------------------------------------------------------------------------


@pytest.fixture
def data_of(network, settings) -> Callable[..., AnomalyData]:
    """Data with 5 samples for training and 5 for validation, in the first of some processes that never wait."""

    def make(world_size: int = 1, **changes) -> AnomalyData:
        train, val = NoiseImages(), NoiseImages(seed=1)
        data = AnomalyData([train], [val], cache=replace(settings, **changes))
        strategy = SimpleNamespace(root_device=torch.device("cpu"), barrier=lambda name: None)
        module = SimpleNamespace(model=SimpleNamespace(network=network))
        data.trainer = SimpleNamespace(
            lightning_module=module, strategy=strategy, global_rank=0, world_size=world_size, is_global_zero=True
        )
        data.asked = (train.asked, val.asked)
        return data

    return make


def test_validation_computes_nothing_of_the_training_data(data_of) -> None:
    data = data_of()
    data.setup("validate")
    assert [len(set(asked)) for asked in data.asked] == [0, 5]
    data.setup("fit")
    assert [len(set(asked)) for asked in data.asked] == [5, 5]


def test_limit_covers_both_sets_before_computing(data_of) -> None:
    data = data_of(limit_gb=1.5 * 5 * BYTES_EACH / 1e9)
    with pytest.raises(DatasetError, match=r"frozen outputs of 10 samples .* within limit_gb"):
        data.setup("fit")
    assert list(map(len, data.asked)) == [0, 0]
    data_of(limit_gb=2 * 5 * BYTES_EACH / 1e9 * 1.2).setup("fit")


def test_a_folder_that_other_machines_do_not_share_is_named(data_of, settings) -> None:
    data = data_of(world_size=2)
    with pytest.raises(DatasetError, match=rf"must be shared by all machines, but 2 of 5 .* not in {settings.folder}"):
        data.setup("fit")


def test_sample_of_another_size_is_refused(network, settings) -> None:
    cache = FeatureCache(network, NoiseImages(size_hw=(64, 64)), settings)
    with pytest.raises(DatasetError, match=r"got \(64, 64\) from 0.*: set crop_hw of the data to \[64, 96\]"):
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
