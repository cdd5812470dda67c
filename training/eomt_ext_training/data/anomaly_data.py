"""Training and validation data of the head, from data sets, with a disk cache of frozen outputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler

from eomt_ext_core.datasets.labels import PLAIN_LABELS, LabelCensus
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.progress import progress
from eomt_ext_training import targets
from eomt_ext_training.data.sample import AnomalyDataset, Sample
from eomt_ext_training.head.feature_cache import CacheSettings, FeatureCache, hold_to_limit
from eomt_ext_training.targets import with_label_map

_log = logging.getLogger(__name__)


class AnomalyData(LightningDataModule):
    """Data sets of :class:`~eomt_ext_training.data.sample.Sample`, one after the other.

    Args:
        train: data sets to learn from.
        val: data sets to choose the best checkpoint by.
        batch_size: crops in a step, on each device.
        num_workers: processes that load data.
        cache: settings of the cache of frozen outputs; None to run the network in each step.
        seed: of the order of the samples.

    Raises:
        DatasetError: if one of the two is empty.
    """

    def __init__(
        self,
        train: list[Dataset],  # type: ignore[type-arg]
        val: list[Dataset],  # type: ignore[type-arg]
        batch_size: int = 4,
        num_workers: int = 0,
        cache: CacheSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, parts in (("train", train), ("val", val)):
            if not sum(len(cast(AnomalyDataset, part)) for part in parts):
                raise DatasetError(f"the {name} data must hold at least one sample, got none")
        self._samples = {"train": JoinedSamples(train), "val": JoinedSamples(val)}
        self._batch_size, self._num_workers, self._seed = batch_size, num_workers, seed
        self._cache = cache
        self._loaded: dict[str, Dataset[Any]] = dict(self._samples)

    def setup(self, stage: str) -> None:
        """Compute the missing frozen outputs of a stage; each process computes its part.

        Raises:
            DatasetError: if the labels show no anomalous or no normal pixel, there is no room for all outputs, or
                processes do not see what others computed.
        """
        names = ("train", "val") if stage == "fit" else ("val",)
        if self._cache is None:
            self._check_kinds(names)
            return
        trainer = self.trainer
        assert trainer is not None, "Lightning attaches the trainer"
        network = cast(EoMT, cast(Any, trainer.lightning_module).model.network)
        home = network.q.weight.device
        network.to(trainer.strategy.root_device)
        caches = {name: FeatureCache(network, self._samples[name], self._cache) for name in names}
        if any(cache.missing() for cache in caches.values()):
            hold_to_limit(list(caches.values()))
        self._check_kinds(names)
        for name, cache in caches.items():
            missing = cache.missing()
            trainer.strategy.barrier(f"{name} cache looked through")
            part = missing[trainer.global_rank :: trainer.world_size]
            _log.info("%s: %d of %d frozen outputs in %s", name, len(cache) - len(missing), len(cache), cache.folder)
            with progress(f"frozen outputs, {name}", len(part), shown=trainer.is_global_zero) as update:
                done = 0
                for written in cache.compute(network, part, self._num_workers):
                    done += written
                    update(done, "")
            trainer.strategy.barrier(f"{name} cache complete")
            if unseen := cache.missing():
                raise DatasetError(
                    f"the cache folder must be shared by all machines, but {len(unseen)} of {len(cache)} frozen "
                    f"outputs, which other processes computed, are not in {cache.folder}: put data.cache.folder on a "
                    "shared disk, or train without cache"
                )
            self._loaded[name] = cache
        network.to(home)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that follows from seed and epoch, the same number for each process."""
        rank, world = self._place()
        sampler: DistributedSampler[Any] = DistributedSampler(
            self._loaded["train"], world, rank, shuffle=True, seed=self._seed
        )
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Create batches of the part of each process, without repeating any sample."""
        return self._loader("val", ShareSampler(self._loaded["val"], *self._place()))

    def _check_kinds(self, names: Sequence[str]) -> None:
        for name in names:
            if problem := self._samples[name].census().problem():
                raise DatasetError(f"the {name} data: {problem}")

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, name: str, sampler: DistributedSampler[Any]) -> DataLoader[Any]:
        return DataLoader(
            self._loaded[name],
            batch_size=self._batch_size,
            sampler=sampler,
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class JoinedSamples(ConcatDataset[Sample]):
    """Data sets one after the other, as one."""

    def __getitem__(self, index: int) -> Sample:
        """Return a sample with a checked label map; raises ``DatasetError`` naming it if its labels break a rule."""
        return with_label_map(super().__getitem__(index))  # type: ignore[no-untyped-call]

    def census(self) -> LabelCensus:
        """Count the labels of all samples, or of randomly drawn ones until both kinds are found."""
        census = LabelCensus()
        for index in np.random.default_rng(0).permutation(len(self)).tolist():
            census.add(self[index].labels.numpy(), PLAIN_LABELS)
            if not census.missing:
                break
        return census

    def fingerprint(self) -> str:
        """Digest the fingerprints of the data sets, and the code that makes label maps."""
        parts = [cast(AnomalyDataset, part).fingerprint() for part in self.datasets]
        return fingerprint_of(parts, generators=[targets])


class ShareSampler(DistributedSampler[Any]):
    """Every ``world_size``-th sample, from ``rank`` on; unlike its base, it repeats none to make parts equal."""

    def __init__(self, dataset: Dataset[Any], rank: int, world_size: int) -> None:
        super().__init__(dataset, world_size, rank, shuffle=False)
        self._indices = range(rank, len(cast(AnomalyDataset, dataset)), world_size)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
