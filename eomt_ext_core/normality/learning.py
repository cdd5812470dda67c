"""Learning what is ordinary: a bounded sample of patches, then the reading of scores on another part of the drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.normality.drift import LEAST_REFERENCE, DriftReference
from eomt_ext_core.normality.drives import Drive
from eomt_ext_core.normality.learn_config import LearnConfig
from eomt_ext_core.normality.normal_file import rounded
from eomt_ext_core.normality.normality import Normality, Reading
from eomt_ext_core.normality.patch_distance import learn_distance
from eomt_ext_core.normality.unfinished import Unfinished
from eomt_ext_core.progress import progress

MOST_PATCHES = 40_000
_PIXELS_PER_IMAGE = 4096
_MOST_PIXELS = 1 << 21
_UPPER = 0.99  # the quantile that stands for the tail when two scores are brought to one scale
_HEAD_WEIGHT = 2.0  # of the head in fused, beside the distance
_STEEPNESS = 5.0  # logits between the median of the held-out pixels and the threshold
_LEAST_SPREAD = 1e-6


class Engine(Protocol):
    """What is needed of :class:`~eomt_ext_core.engine.AnomalyEngine`."""

    def patch_features(self, image_rgb: NDArray[np.uint8]) -> Tensor:
        """Give the features of all patches, (N, C)."""
        ...

    def distances(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give (1 or 2, H, W): distances, and the head's logits if there is a head."""
        ...


def learn_normality(
    drives: Sequence[Drive],
    make_engine: Callable[[Normality | None], Engine],
    origin: Mapping[str, str],
    config: LearnConfig,
    unfinished: Unfinished | None = None,
) -> Normality:
    """Learn what is ordinary from the first part of each drive, and how to read it from the rest.

    Args:
        drives: without anomalies, as far as anybody knows: what is in them becomes ordinary.
        make_engine: gives an engine that knows a normality, or none.
        origin: what the network was loaded from.
        config: how.
        unfinished: an interrupted run to go on with, and the place to keep this one; None: neither. The result is the
            same as without an interruption.

    Raises:
        ImageError, InferenceError: as the drives and the engine.
        ConfigError: if the unfinished run is another one, or damaged.
        DatasetError: if a drive is too short to be split.
        OutputError: if the unfinished run cannot be written.
    """
    splits = [_split(drive, config) for drive in drives]
    first = [(drive, 0, split) for drive, split in zip(drives, splits, strict=True)]
    rest = [(drive, split, drive.num_images) for drive, split in zip(drives, splits, strict=True)]
    so_far = _SoFar(len(drives), unfinished)
    engine = make_engine(None)
    for number, image in _shown("learning", first, config, so_far.learnt):
        so_far.add_patches(number, engine.patch_features(image))
    distance = rounded(learn_distance(so_far.patches.rows, config.prototypes))
    engine = make_engine(Normality(distance, {}, origin))
    for number, image in _shown("fitting", rest, config, so_far.held_out):
        so_far.add_held_out(number, torch.from_numpy(engine.distances(image)))
    about = {
        "drives": [drive.name for drive in drives],
        "images_learnt": sum(so_far.learnt),
        "images_held_out": sum(so_far.held_out),
        "false_alarm_rate": config.false_alarm_rate,
    }
    drift = DriftReference.of_images(so_far.strangeness) if len(so_far.strangeness) >= LEAST_REFERENCE else None
    return Normality(distance, so_far.scores.fit(config.false_alarm_rate), origin, about, drift)


class _SoFar:
    """What has been learnt from the images so far, kept in the file of an unfinished run now and then.

    ``learnt`` and ``held_out`` count the images of each drive.
    """

    def __init__(self, num_drives: int, unfinished: Unfinished | None) -> None:
        self.patches, self.scores = Sample(MOST_PATCHES), HeldOutScores()
        self.strangeness: list[float] = []
        self.learnt, self.held_out = [0] * num_drives, [0] * num_drives
        self._unfinished = unfinished
        state = unfinished.load() if unfinished is not None else {}
        if state:
            self.learnt, self.held_out = state["learnt"].tolist(), state["held_out"].tolist()
            self.strangeness = state["strangeness"].tolist()
            self.patches.restore(_part(state, "patches."))
            self.scores.restore(_part(state, "scores."))

    def add_patches(self, drive: int, patches: Tensor) -> None:
        """Add an image to learn from, of the drive with a number."""
        self.patches.add(patches)
        self.learnt[drive] += 1
        self._keep()

    def add_held_out(self, drive: int, maps: Tensor) -> None:
        """Add a held-out image."""
        self.scores.add(maps)
        self.strangeness.append(float(maps[0].mean()))
        self.held_out[drive] += 1
        self._keep()

    def _keep(self) -> None:
        if self._unfinished is not None and self._unfinished.is_due():
            parts = {"patches.": self.patches.state(), "scores.": self.scores.state()}
            state = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
            counts = {"learnt": torch.tensor(self.learnt), "held_out": torch.tensor(self.held_out)}
            strangeness = torch.tensor(self.strangeness, dtype=torch.float64)
            self._unfinished.save({**state, **counts, "strangeness": strangeness})


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _split(drive: Drive, config: LearnConfig) -> int:
    """The first image that is held out."""
    split = round(drive.num_images * (1 - config.held_out))
    if not 0 < split < drive.num_images:
        raise DatasetError(f"{drive.name} must have images to learn from and to hold out, got {drive.num_images}")
    return split


def _shown(
    what: str, parts: Sequence[tuple[Drive, int, int]], config: LearnConfig, done: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The images of parts of drives, each with the number of its drive, but for the first of each that are done."""
    total = sum(len(range(start, stop, config.every)) for _, start, stop in parts)
    with progress(what, total, first=sum(done)) as update:
        for number, (drive, start, stop) in enumerate(parts):
            for image in drive.images(start + done[number] * config.every, stop, config.every):
                yield number, image
                update(sum(done), drive.name)


class Sample:
    """A uniform sample of any number of rows, of bounded size and the same every time.

    Args:
        capacity: most rows that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._generator = torch.Generator().manual_seed(0)
        self._rows = torch.empty(0, 0)
        self._keys = torch.empty(0)

    def add(self, rows: Tensor) -> None:
        """Add (N, D) rows."""
        rows = rows.float().cpu()
        keys = torch.rand(len(rows), generator=self._generator)
        self._rows = torch.cat((self._rows, rows)) if len(self._rows) else rows
        self._keys = torch.cat((self._keys, keys))
        if len(self._keys) > self._capacity:
            self._keys, kept = self._keys.topk(self._capacity)
            self._rows = self._rows[kept]

    @property
    def rows(self) -> Tensor:
        """(M, D) float32.

        Raises:
            DatasetError: if none was added.
        """
        if not len(self._rows):
            raise DatasetError("there must be at least one image to learn from, got none")
        return self._rows

    def state(self) -> dict[str, Tensor]:
        """Give what :meth:`restore` takes up."""
        return {"rows": self._rows, "keys": self._keys, "generator": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the state of another sample."""
        self._rows, self._keys = state["rows"].clone(), state["keys"].clone()
        self._generator.set_state(state["generator"])


class HeldOutScores:
    """Pixels of a held-out part of a drive, all of them ordinary: distances, and the logits of a head."""

    def __init__(self) -> None:
        self._pixels = Sample(_MOST_PIXELS)
        self._generator = torch.Generator().manual_seed(1)

    def add(self, maps: Tensor) -> None:
        """Add an image: (1 or 2, H, W) distances, and logits of the head."""
        chosen = torch.randint(maps[0].numel(), (_PIXELS_PER_IMAGE,), generator=self._generator)
        self._pixels.add(maps.flatten(1)[:, chosen].T)

    def state(self) -> dict[str, Tensor]:
        """Give what :meth:`restore` takes up."""
        return {**self._pixels.state(), "chooser": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the state of others."""
        self._pixels.restore(state)
        self._generator.set_state(state["chooser"])

    def fit(self, false_alarm_rate: float) -> dict[str, Reading]:
        """Fit how ``normality``, and ``fused`` if there is a head, are read.

        Both parts of ``fused`` are brought to one scale, that from their median to their upper hundredth, and added,
        the head twice: that was best on the drives of docs/normality.md. A logit of 0 is exceeded by
        ``false_alarm_rate`` of the held-out pixels, and their median lies 5 below it.
        """
        distance, *heads = self._pixels.rows.unbind(1)
        readings = {"normality": _reading(distance, None, false_alarm_rate)}
        if heads:
            readings["fused"] = _reading(distance, heads[0], false_alarm_rate)
        return readings


def _reading(distance: Tensor, head: Tensor | None, false_alarm_rate: float) -> Reading:
    by_distance, by_head = 1 / _spread(distance), 0.0 if head is None else _HEAD_WEIGHT / _spread(head)
    total = by_distance * distance if head is None else by_distance * distance + by_head * head
    threshold, median = _quantile(total, 1 - false_alarm_rate), _quantile(total, 0.5)
    steepness = _STEEPNESS / max(threshold - median, _LEAST_SPREAD)
    return Reading(by_head * steepness, by_distance * steepness, -threshold * steepness)


def _spread(values: Tensor) -> float:
    return max(_quantile(values, _UPPER) - _quantile(values, 0.5), _LEAST_SPREAD)


def _quantile(values: Tensor, fraction: float) -> float:
    """The value that a fraction of them, rounded up, does not exceed."""
    rank = min(len(values), max(1, -int(-fraction * len(values) // 1)))
    return float(values.kthvalue(rank).values)
