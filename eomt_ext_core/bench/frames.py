"""The tasks of a process of the benchmark: run a frame, or several images at once.

Each variant has its own process with its own memory, and the others are idle while it runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.bench.clock import StageClock, synchronize
from eomt_ext_core.bench.config import EXPORTED, NETWORK, SCORING
from eomt_ext_core.bench.memory import Memory, MemoryWatch
from eomt_ext_core.bench.variants.exported import exported_pipelines, load_exported
from eomt_ext_core.bench.variants.models import make_model
from eomt_ext_core.bench.variants.pipelines import Pipelines, make_pipelines
from eomt_ext_core.config import EngineConfig, WindowConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.stages import NETWORK_AND_SCORING


@dataclass(frozen=True)
class Sample:
    """One frame: seconds from array to arrays, and of each stage."""

    frame_s: float
    stages_s: dict[str, float]


@dataclass(frozen=True)
class Turn:
    """The frames that a variant runs before the turn of the next.

    Attributes:
        samples: of each frame.
        memory: around the first frame and the lead-in.
        probability: of the last frame, if the variant has scoring.
    """

    samples: list[Sample]
    memory: Memory
    probability: NDArray[np.float32] | None


class What(NamedTuple):
    """What a process measures.

    Attributes:
        variant: one of :data:`~eomt_ext_core.bench.config.VARIANTS`, or ``exported``.
        model: as for :func:`~eomt_ext_core.bench.variants.models.make_model`, or an exported file.
        device: ``cpu`` or ``cuda:N``; of an exported file, as for the engine.
        backend, precision: of an exported file, as for the engine.
    """

    variant: str
    model: str
    device: str
    backend: str = "auto"
    precision: str = "auto"


class Ready(NamedTuple):
    """A process that is set up.

    Attributes:
        label: how results name the variant.
        device: that the network runs on; the CPU if torch has no name for it.
        crop_hw: the window of an exported file.
    """

    label: str
    device: torch.device
    crop_hw: tuple[int, int] | None


def set_up(what: What) -> Ready:
    """Set this process up."""
    return _subject(what).ready


def run_turn(what: What, image_hw: tuple[int, int], num_frames: int, lead_in: int) -> Turn:
    """Run frames of the size ``image_hw`` in the process of a variant, without counting the first ``lead_in``."""
    subject, image = _subject(what), _image(image_hw)
    subject.memory.start()
    for _ in range(lead_in):
        subject.pipelines.whole(image, StageClock(subject.device))
    samples = []
    for index in range(num_frames):
        clock = StageClock(subject.device)
        start = time.perf_counter()
        probability = subject.pipelines.whole(image, clock)
        synchronize(subject.device)
        frame_s = time.perf_counter() - start
        if index == 0:  # timing stages separately takes memory
            memory = subject.memory.read()
        samples.append(Sample(frame_s, _stages_s(subject, image, clock)))
    return Turn(samples, memory, probability)


def _stages_s(subject: _Subject, image: NDArray[np.uint8], clock: StageClock) -> dict[str, float]:
    """Return the seconds of each stage, from another frame if timing stages changes the frame."""
    if subject.pipelines.staged is not subject.pipelines.whole:
        clock = StageClock(subject.device)
        subject.pipelines.staged(image, clock)
    stages_s = clock.durations_s()
    if SCORING in stages_s and NETWORK_AND_SCORING in stages_s:
        stages_s[NETWORK] = stages_s.pop(NETWORK_AND_SCORING) - stages_s[SCORING]
    return stages_s


def time_batch(model: str, device: str, image_hw: tuple[int, int], num_images: int) -> float:
    """Measure the seconds of the engine for several images of a size at once, in ``grid`` mode."""
    engine, images = _grid_engine(model, device), [_image(image_hw)] * num_images
    start = time.perf_counter()
    engine.infer_batch(images)
    return time.perf_counter() - start


@cache
def _image(image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make a fixed image of noise: the cost does not depend on the content."""
    return np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)


class _Subject(NamedTuple):
    device: torch.device
    memory: MemoryWatch
    pipelines: Pipelines
    ready: Ready


@cache
def _subject(what: What) -> _Subject:
    if what.variant == EXPORTED:  # its runtime takes windows from the CPU, and gives scores back there
        device = torch.device("cpu")
        memory = MemoryWatch(device)
        engine = load_exported(what.model, what.backend, what.precision, what.device)
        facts = engine.describe()
        runs_on = torch.device(facts["device"]) if facts["device"].startswith("cuda") else device
        ready = Ready(f"{facts['backend']}-{engine.precision}", runs_on, engine.crop_hw)
        return _Subject(device, memory, exported_pipelines(engine), ready)
    device = torch.device(what.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    memory = MemoryWatch(device)  # before there is a model
    pipelines = make_pipelines(what.variant, make_model(what.model), device)
    return _Subject(device, memory, pipelines, Ready(what.variant, device, None))


@cache
def _grid_engine(model: str, device: str) -> AnomalyEngine:
    return AnomalyEngine(
        make_model(model), EngineConfig(device=device, windows=WindowConfig(mode="grid"), max_windows=4096)
    )
