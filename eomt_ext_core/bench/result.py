"""The result of a benchmark, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eomt_ext_core.bench.config import REFERENCE
from eomt_ext_core.bench.memory import Memory
from eomt_ext_core.files import atomic_write, valid_text


@dataclass(frozen=True)
class Times:
    """Seconds of a measurement with ``count`` repeats; the 99th percentile is interpolated.

    >>> Times.of([0.1, 0.4, 0.2])
    Times(median_s=0.2, p99_s=0.396, count=3)
    """

    median_s: float
    p99_s: float
    count: int

    @classmethod
    def of(cls, samples_s: Sequence[float]) -> Times:
        """Summarise samples."""
        return cls(float(np.median(samples_s)), round(float(np.percentile(samples_s, 99)), 9), len(samples_s))


@dataclass(frozen=True)
class VariantResult:
    """A variant on one kind of frame.

    Attributes:
        frame: time from array to arrays, or None if the variant has no scoring.
        stages: times by name, without the network if it cannot be separated from the scoring.
        memory: before the first turn, and the peak over the first frames of all turns.
        held_at_end: as ``memory.held``, but before the last turn; equal if nothing leaks.
        frame_ceiling_fraction: rate of the frame's arithmetic over the ceiling of the variant's precision.
        network_ceiling_fraction: the same of the network stage alone, if known.
        largest_difference: of the probability from that of ``literal-fp32``, if both ran.
    """

    frame: Times | None
    stages: dict[str, Times]
    memory: Memory
    held_at_end: int
    frame_ceiling_fraction: float | None
    network_ceiling_fraction: float | None
    largest_difference: float | None

    @property
    def rounds(self) -> int:
        """Number of frames."""
        return next(iter(self.stages.values())).count


@dataclass(frozen=True)
class CaseResult:
    """All variants on one model and one size of image, measured in turn.

    ``network_flops`` and ``scoring_flops`` are those of a whole frame, the scoring's in the factored form; None of an
    exported file.
    """

    model: str
    image_hw: tuple[int, int]
    num_windows: int
    network_flops: int | None
    scoring_flops: int | None
    variants: dict[str, VariantResult]

    def speedup(self, variant: str, stage: str | None = None) -> float | None:
        """Return the speed-up of the whole frame or a stage over ``literal-fp32``, or None if one has not run."""
        if REFERENCE not in self.variants:
            return None
        medians = []
        for name in (REFERENCE, variant):
            result = self.variants[name]
            times = result.frame if stage is None else result.stages.get(stage)
            if times is None:
                return None
            medians.append(times.median_s)
        return medians[0] / medians[1]


@dataclass(frozen=True)
class GrowthPoint:
    """The engine on several images of one size at once; seconds are those of all of them."""

    image_hw: tuple[int, int]
    num_images: int
    num_windows: int
    times: Times

    @property
    def megapixels(self) -> float:
        """Megapixels of all images together."""
        return self.num_images * self.image_hw[0] * self.image_hw[1] / 1e6


@dataclass(frozen=True)
class Growth:
    """Growth of the engine's cost in ``grid`` mode with the size of an image and the number of cameras."""

    model: str
    precision: str
    images: list[GrowthPoint]
    cameras: list[GrowthPoint]


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark.

    Attributes:
        machine: description of the machine.
        command: command line.
        ceiling_flops_per_s: of matrix products, by precision; the best of all rounds.
        cases: a model and an image size each.
        growth: None if it was not requested.
        not_measured: variants that did not run, with the reason.
    """

    machine: dict[str, str]
    command: str
    ceiling_flops_per_s: dict[str, float]
    cases: list[CaseResult]
    growth: Growth | None
    not_measured: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        content: dict[str, Any] = asdict(self)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(valid_text(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
