"""Run of a benchmark: every variant in its own process, taking turns frame by frame."""

from __future__ import annotations

import math
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import windows
from eomt_ext_core.backends.device import choose_device, choose_precision
from eomt_ext_core.bench.config import (
    CAMERA_HW,
    EXPORTED,
    NETWORK,
    NO_GROWTH,
    NUM_CAMERAS,
    REFERENCE,
    STAGES,
    STAGES_OF_EXPORTED,
    BenchConfig,
    is_exported,
)
from eomt_ext_core.bench.flops import MatrixCeiling, count_window_flops
from eomt_ext_core.bench.frames import Turn, What, run_turn, set_up, time_batch
from eomt_ext_core.bench.machine import describe_machine
from eomt_ext_core.bench.memory import Memory
from eomt_ext_core.bench.result import BenchResult, CaseResult, Growth, GrowthPoint, Times, VariantResult
from eomt_ext_core.bench.variants.models import make_model
from eomt_ext_core.config import EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.stages import NETWORK_AND_SCORING


@dataclass(frozen=True)
class _Turns:
    """The number and length of the turns of a variant.

    On a GPU an idle process needs a frame or two to reach full speed; on a CPU a literal frame takes so
    many seconds that warming up is a single window.
    """

    default_repeats: int
    frames: int
    lead_in: int
    warm_up_frames: int


_TURNS = {"cpu": _Turns(3, 1, 0, 0), "cuda": _Turns(200, 10, 2, 10)}

Report = Callable[[str], None]


def find_device(config: BenchConfig) -> torch.device:
    """Return the device of the variants; an exported file is loaded, as its runtime has the choice.

    Raises:
        ConfigError: if the device does not exist, or the settings do not fit the exported file.
        CheckpointError: if the exported file cannot be loaded.
        InferenceError: if it gives another answer than the known one in it.
    """
    if not is_exported(config.checkpoint):
        return choose_device(config.device)
    what = What(EXPORTED, config.checkpoint, config.device, config.backend, config.precision)
    with _new_process() as worker:
        return worker.submit(set_up, what).result().device


def run_bench(config: BenchConfig, device: torch.device, command: str, report: Report = lambda _: None) -> BenchResult:
    """Run a benchmark.

    Variants take turns, so that other load on the machine affects all of them alike.

    Args:
        config: settings of the benchmark.
        device: of the variants, from :func:`find_device`.
        command: command line, for the record.
        report: called with the name of the current measurement.

    Raises:
        ConfigError: if a model has no anomaly head.
        CheckpointError: if a checkpoint cannot be loaded.
    """
    exported = is_exported(config.checkpoint)
    machine = describe_machine(device)
    not_measured = {}
    if exported:
        not_measured = dict.fromkeys(config.variants, "it needs a checkpoint, which an exported file is not")
    elif find_spec("transformers") is None:
        not_measured = {name: "transformers is not installed" for name in config.variants if "transformers" in name}
    variants = [EXPORTED] if exported else [name for name in config.variants if name not in not_measured]
    bench = _Bench(device, config, variants, report)
    measured = [case for model in config.models for case in bench.run_model(model)]
    growth = None if config.growth_model == NO_GROWTH else bench.follow_growth(config.growth_model)
    ceilings = bench.ceiling_flops_per_s
    return BenchResult(machine, command, ceilings, [_sum_up(case, ceilings) for case in measured], growth, not_measured)


class _Case(NamedTuple):
    """A model on a size of image, the arithmetic of a frame if it is known, and the turns of each variant."""

    model: str
    image_hw: tuple[int, int]
    num_windows: int
    network_flops: int | None
    scoring_flops: int | None
    turns: dict[str, list[Turn]]


class _Bench:
    """The device, the number of rounds and the measured ceilings, for all cases."""

    def __init__(self, device: torch.device, config: BenchConfig, variants: Sequence[str], report: Report) -> None:
        self._device = device
        self._config = config
        self._variants = variants
        self._report = report
        self._turns = _TURNS[device.type]
        self._rounds = math.ceil((config.repeats or self._turns.default_repeats) / self._turns.frames)
        precisions = {_precision(name) for name in variants if name != EXPORTED}
        self._ceilings = {name: MatrixCeiling(device, name) for name in sorted(precisions)}
        self.ceiling_flops_per_s = dict.fromkeys(self._ceilings, 0.0)

    def run_model(self, name: str) -> Iterator[_Case]:
        """Measure all variants on each image size."""
        window_flops: tuple[int | None, int | None] = (None, None)
        crop_hw: tuple[int, int] | None = None
        device = str(self._device)
        if is_exported(name):
            device = self._config.device
        else:
            model = make_model(name)
            if model.anomaly_head is None:
                raise ConfigError(f"a benchmark needs a model with an anomaly head, {name} has none")
            crop_hw, window_flops = model.config.crop_hw, count_window_flops(model)
            del model
        what = What("", name, device, self._config.backend, self._config.precision)
        with ExitStack() as stack:
            workers = {variant: stack.enter_context(_new_process()) for variant in self._variants}

            def run(variant: str, image_hw: tuple[int, int], frames: int, lead_in: int) -> Turn:
                of_variant = what._replace(variant=variant)
                return workers[variant].submit(run_turn, of_variant, image_hw, frames, lead_in).result()

            self._report(f"{name}: setting up {len(workers)} processes")
            futures = {name: each.submit(set_up, what._replace(variant=name)) for name, each in workers.items()}
            ready = {variant: future.result() for variant, future in futures.items()}
            crop_hw = crop_hw or next(iter(ready.values())).crop_hw
            assert crop_hw is not None, "an exported file tells its window"
            for variant in self._variants:
                self._report(f"{name}: warming up {variant}")
                run(variant, crop_hw, 1, 0)
            for image_hw in self._config.images_hw:
                plan = windows.plan(image_hw, crop_hw, WindowConfig())
                network, scoring = (None if count is None else plan.num_windows * count for count in window_flops)
                turns = self._run_rounds(name, image_hw, run)
                labelled = {ready[variant].label: found for variant, found in turns.items()}
                yield _Case(_label(name), image_hw, plan.num_windows, network, scoring, labelled)

    def _run_rounds(
        self, model: str, image_hw: tuple[int, int], run: Callable[[str, tuple[int, int], int, int], Turn]
    ) -> dict[str, list[Turn]]:
        what = f"{model}, {image_hw[1]}×{image_hw[0]}"
        if self._turns.warm_up_frames:
            self._report(f"{what}: warming up")
            for variant in self._variants:
                run(variant, image_hw, 1, self._turns.warm_up_frames)
        turns: dict[str, list[Turn]] = {variant: [] for variant in self._variants}
        for index in range(self._rounds):
            for variant in self._variants:
                self._report(f"{what}: round {index + 1} of {self._rounds}, {variant}")
                turn = run(variant, image_hw, self._turns.frames, self._turns.lead_in)
                # keep one probability to compare: thousands would not fit into memory
                turns[variant].append(turn if index == 0 else replace(turn, probability=None))
            for precision, ceiling in self._ceilings.items():
                best = max(self.ceiling_flops_per_s[precision], ceiling.flops_per_s())
                self.ceiling_flops_per_s[precision] = best
        return turns

    def follow_growth(self, name: str) -> Growth:
        """Measure the engine over image sizes and over numbers of images, the sizes and numbers in turn."""
        crop_hw = make_model(name).config.crop_hw
        sizes = [(image_hw, 1) for image_hw in self._config.growth_hw]
        cameras = [(CAMERA_HW, count) for count in NUM_CAMERAS]
        seconds: Mapping[tuple[tuple[int, int], int], list[float]] = defaultdict(list)
        points = list(dict.fromkeys(sizes + cameras))
        with _new_process() as worker:

            def run(image_hw: tuple[int, int], num_images: int) -> float:
                return worker.submit(time_batch, name, str(self._device), image_hw, num_images).result()

            for point in points if self._turns.warm_up_frames else points[:1]:
                self._report(f"growth of {name}: warming up")
                run(*point)
            for index in range(self._rounds):
                self._report(f"growth of {name}: round {index + 1} of {self._rounds}")
                for point in points:
                    seconds[point].append(run(*point))

        def point_of(image_hw: tuple[int, int], count: int) -> GrowthPoint:
            plan = windows.plan(image_hw, crop_hw, WindowConfig(mode="grid"))
            return GrowthPoint(image_hw, count, count * plan.num_windows, Times.of(seconds[image_hw, count]))

        precision = choose_precision(EngineConfig().precision, self._device)
        return Growth(
            _label(name), precision, [point_of(*size) for size in sizes], [point_of(*count) for count in cameras]
        )


def _sum_up(case: _Case, ceiling_flops_per_s: Mapping[str, float]) -> CaseResult:
    reference = case.turns[REFERENCE][0].probability if REFERENCE in case.turns else None
    flops = None if case.network_flops is None else (case.network_flops, case.scoring_flops or 0)
    results = {
        variant: _sum_up_variant(turns, flops, ceiling_flops_per_s.get(_precision(variant)), reference)
        for variant, turns in case.turns.items()
    }
    return CaseResult(case.model, case.image_hw, case.num_windows, case.network_flops, case.scoring_flops, results)


def _sum_up_variant(
    turns: Sequence[Turn],
    flops: tuple[int, int] | None,
    ceiling: float | None,
    reference: NDArray[np.float32] | None,
) -> VariantResult:
    samples = [sample for turn in turns for sample in turn.samples]
    known = STAGES_OF_EXPORTED if NETWORK_AND_SCORING in samples[0].stages_s else STAGES
    timed = [stage for stage in known if stage in samples[0].stages_s]
    stages = {stage: Times.of([sample.stages_s[stage] for sample in samples]) for stage in timed}
    if NETWORK in stages and stages[NETWORK].median_s <= 0:
        del stages[NETWORK]  # the difference of both stages together and the scoring alone, if that took longer
    network = stages.get(NETWORK)
    probability = turns[0].probability
    frame = None if probability is None else Times.of([sample.frame_s for sample in samples])
    difference = None
    if probability is not None and reference is not None:
        difference = float(np.abs(probability - reference).max())
    return VariantResult(
        frame=frame,
        stages=stages,
        memory=Memory(turns[0].memory.held, max(turn.memory.peak for turn in turns)),
        held_at_end=turns[-1].memory.held,
        frame_ceiling_fraction=sum(flops) / frame.median_s / ceiling if frame and flops and ceiling else None,
        network_ceiling_fraction=flops[0] / network.median_s / ceiling if network and flops and ceiling else None,
        largest_difference=difference,
    )


def _label(model: str) -> str:
    return Path(model).name if Path(model).exists() else model


def _precision(variant: str) -> str:
    return variant.rpartition("-")[2]


def _new_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
