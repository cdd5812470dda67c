"""Calls of the engine that survive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_window_count
from eomt_ext_core.engine.frame import Part, SubmittedBatch
from eomt_ext_ros.inference.batch_backoff import GROW_PERIOD_S, BatchBackoff
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.pace import Pace
from eomt_ext_ros.inference.tracebacks import clear_traceback_locals, drop_tracebacks

FREE_PERIOD_S, LONGEST_FREE_PERIOD_S = 10.0, 240.0

Images = Mapping[str, NDArray[np.uint8]]
Parts = Mapping[str, Collection[Part]]
Outcome = AnomalyFrame | Exception


@dataclass(frozen=True)
class _Call:
    """A call of the engine.

    Attributes:
        images_rgb: by camera.
        config, parts: as for :meth:`Inference.submit`.
        windows: of all images.
        tried: how many of them at a time.
        submitted: or why it could not be.
        submitted_s: when, on the clock.
        is_beside_another: whether a flight was not collected then.
    """

    images_rgb: Images
    config: EngineConfig
    parts: Parts
    windows: int
    tried: int
    submitted: SubmittedBatch | Exception
    submitted_s: float
    is_beside_another: bool


@dataclass(frozen=True, eq=False)
class Flight:
    """Images on their way through the engine.

    Attributes:
        refused: why some cannot be used, by camera.
        first: the call that is submitted, of the common batch if there is one; None if all are refused.
        later: images that have calls of their own, after it.
    """

    refused: Mapping[str, ImageError]
    first: _Call | None
    later: Sequence[Images]
    config: EngineConfig
    parts: Parts


class Inference:
    """Call an engine for batches of images, and give for each a frame or the exception that took its place.

    A batch may be submitted while another one is in flight. If memory is short then, it is tried again without the
    other, and for a minute none is submitted beside another.

    The images of all cameras go together. If that fails, each is tried alone, so that one camera does not cost the
    others their frames; a camera that fails alone too stays alone until it has not failed for a minute.

    If memory is short, the engine's reserve is freed and half as many windows are tried, once for each image. A camera
    that is still short of it backs off, from 1 s to 60 s. Memory is freed every 10 s at most, and less often while that
    does not help, as it costs every camera its CUDA graphs. Belongs to one thread.

    Args:
        engine: that is called.
        clock: steady, in seconds.

    Attributes:
        backoffs_s: for how many seconds cameras are to send no image after the last batch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.backoffs_s: dict[str, float] = {}
        self._clock = clock
        self._common = BatchBackoff()
        self._fitting_windows: int | None = None
        self._note_fitting()
        self._cameras: dict[str, BatchBackoff] = {}
        self._failures: dict[str, Exception] = {}
        self._in_flight = list[Flight]()
        self._settled: dict[Flight, Mapping[str, Outcome] | Exception] = {}  # of those in flight, their first calls
        self._overlap_again_s = -math.inf
        self._pace = Pace()
        self._frees, self._freed_at_s = 0, -math.inf
        self._free_at_s, self._free_period_s = -math.inf, FREE_PERIOD_S

    @property
    def failures(self) -> dict[str, Exception]:
        """By camera, why its last image has no frame; an unusable image is no failure. Any thread may ask."""
        return self._failures.copy()

    def forget_failures(self) -> None:
        """Begin anew, as when the node is activated; what memory allows is still known."""
        self._failures.clear()

    def forget_failure(self, camera: str) -> None:
        """Do so for a camera of whose images nothing is inferred now."""
        self._failures.pop(camera, None)

    def describe(self, config: EngineConfig) -> dict[str, str]:
        """Describe the engine and its batches under a configuration. Any thread may ask.

        ``batch_windows`` is such as ``16 (reduced to 8, to 5 for front: out of memory)``; ``in flight`` is there only
        for as long as memory was short for two.
        """
        configured = self.engine.batch_windows_of(config)
        limits = dict[str, int]()  # a single camera has no name, as the common batch has none
        for camera, backoff in [("", self._common), *self._cameras.copy().items()]:
            if backoff.windows is not None and backoff.windows < limits.get(camera, configured):
                limits[camera] = backoff.windows
        reduced = [f"to {limit} for {camera}" if camera else f"to {limit}" for camera, limit in limits.items()]
        batch = f"{configured} (reduced {', '.join(reduced)}: out of memory)" if reduced else str(configured)
        in_flight = {"in flight": "1 for now: out of memory for two"} if self._is_short_for_two else {}
        freed = {"memory freed (times)": str(self._frees)}
        return {**self.engine.describe(config), "batch_windows": batch, **in_flight, **freed}

    @property
    def was_freed_lately(self) -> bool:
        """Whether memory was freed in the last four minutes, and may be short still. Any thread may ask."""
        return self._clock() < self._freed_at_s + LONGEST_FREE_PERIOD_S

    @property
    def overlap_at_s(self) -> float:
        """When to begin another batch beside the last one, on the clock: just in time for the device.

        Infinite if nothing may be submitted beside it: it could not be submitted itself, or its flight has calls to
        come, or memory was short for two.
        """
        last = self._in_flight[-1] if self._in_flight else None
        call = last.first if last is not None and not last.later else None
        if call is None or isinstance(call.submitted, Exception) or self._is_short_for_two:
            return math.inf
        return self._pace.begin_at_s(call.submitted_s, call.windows)

    @property
    def _is_short_for_two(self) -> bool:
        """Whether memory was short for two in flight, and none is to be submitted beside another for now."""
        return self._clock() < self._overlap_again_s

    def submit(self, images_rgb: Images, config: EngineConfig, parts: Parts, began_s: float) -> Flight:
        """Begin with images, each (H, W, 3) uint8, by camera.

        What the engine raises for an image is its outcome.

        Args:
            images_rgb: all of different cameras.
            config: what the engine runs under.
            parts: what the frame of each camera holds; it may hold more.
            began_s: when the batch began, on the clock.
        """
        refused, together, alone = dict[str, ImageError](), dict[str, NDArray[np.uint8]](), list[Images]()
        for camera, image in images_rgb.items():
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                refused[camera] = error
                continue
            own = self._cameras.setdefault(camera, BatchBackoff())
            own.grow(self._clock(), self._windows({camera: image}, config))
            if own.is_alone:
                alone.append({camera: image})
            else:
                together[camera] = image
        self._note_fitting()
        self._common.grow(self._clock(), self.engine.batch_windows_of(config))
        first, *later = [batch for batch in (together, *alone) if batch] or [{}]
        flight = Flight(refused, self._submit(first, config, parts) if first else None, later, config, parts)
        self._in_flight.append(flight)
        if first:
            self._pace.submitted(began_s, self._clock())
        return flight

    def collect(self, flight: Flight) -> Iterator[Mapping[str, Outcome]]:
        """Give outcomes by camera, in parts as they come: those of the common batch first, then of each camera alone.

        Flights are collected in the order in which they were submitted.
        """
        self._in_flight.remove(flight)
        self.backoffs_s = {}
        for camera, refusal in flight.refused.items():
            yield {camera: refusal}
        later = (self._submit(batch, flight.config, flight.parts) for batch in flight.later)
        for call in chain(filter(None, [flight.first]), later):
            is_settled = call is flight.first and flight in self._settled
            outcomes = self._settled.pop(flight) if is_settled else self._collect(call)
            is_beside_another = call.is_beside_another or bool(self._in_flight)
            if isinstance(outcomes, Exception):
                self._settle()
            if is_beside_another and is_out_of_memory(outcomes):
                self._overlap_again_s = self._clock() + GROW_PERIOD_S
                call = self._submit(call.images_rgb, call.config, call.parts)
                outcomes = self._collect(call)
            if isinstance(outcomes, Exception):
                self._blame(call, outcomes)
                outcomes = self._retry(call, outcomes)
            self._note(outcomes)
            yield outcomes

    def _submit(self, batch: Images, config: EngineConfig, parts: Parts) -> _Call:
        limit, is_beside_another = self._limit(batch, config), bool(self._in_flight)
        submitted: SubmittedBatch | Exception
        try:
            submitted = self.engine.submit(
                list(batch.values()),
                parts=frozenset[Part]().union(*(parts[camera] for camera in batch)),
                config=replace(config, batch_windows=limit),
            )
        except Exception as error:
            submitted = _without_memory(error)
        number = self._windows(batch, config)
        return _Call(batch, config, parts, number, min(limit, number), submitted, self._clock(), is_beside_another)

    def _settle(self) -> None:
        """Collect what is in flight, so that what is tried again comes after it, with all the memory."""
        for flight in self._in_flight:
            if flight.first is not None and flight not in self._settled:
                self._settled[flight] = self._collect(flight.first)

    def _collect(self, call: _Call) -> Mapping[str, Outcome] | Exception:
        """Collect a call, once; an exception holds nothing any more of what the call had in memory."""
        if isinstance(call.submitted, Exception):
            return call.submitted
        try:
            frames = self.engine.collect(call.submitted)
            self._pace.collected(call.submitted_s, self._clock(), call.windows)
            return dict(zip(call.images_rgb, frames, strict=True))
        except Exception as error:
            return _without_memory(error)

    def _blame(self, call: _Call, error: Exception) -> None:
        """Give a camera that has failed alone calls of its own, with half of the windows if memory was short."""
        if len(call.images_rgb) == 1:
            half = max(1, call.tried // 2) if is_out_of_memory(error) else None
            self._cameras[next(iter(call.images_rgb))].restrict(self._clock(), half)

    def _retry(self, failed: _Call, error: Exception) -> Mapping[str, Outcome]:
        """Try each image of a failed call alone; if memory was short, with half of the windows that were tried."""
        is_short, limit = is_out_of_memory(error), self._common.windows
        batch, tried = failed.images_rgb, failed.tried
        is_freed = is_short and self._free()
        if len(batch) == 1 and not is_freed and not (is_short and tried > 1):
            return dict.fromkeys(batch, error)
        if len(batch) > 1 and is_short:
            self._common.windows = max(1, tried // 2)
        outcomes = dict[str, Outcome]()
        for camera, image in batch.items():
            call = self._submit({camera: image}, failed.config, failed.parts)
            alone = self._collect(call)
            if isinstance(alone, Exception):
                self._blame(call, alone)
            outcomes |= {camera: alone} if isinstance(alone, Exception) else alone
        if is_freed:
            helped = not any(map(is_out_of_memory, outcomes.values()))
            self._free_period_s = FREE_PERIOD_S if helped else min(2 * self._free_period_s, LONGEST_FREE_PERIOD_S)
            self._free_at_s = self._clock() + self._free_period_s
        if any(isinstance(outcome, Exception) for outcome in outcomes.values()):
            self._common.windows = limit  # those that fail alone too are to blame
        elif len(batch) > 1:
            if is_short:
                self._common.restrict(self._clock(), self._common.windows)
            if not is_short or tried == 1:
                for camera in batch:
                    self._cameras[camera].restrict(self._clock(), None)
        return outcomes

    def _free(self) -> bool:
        """Free the engine's reserve, if that is not too soon."""
        if self._clock() < self._free_at_s:
            return False
        self._frees, self._freed_at_s = self._frees + 1, self._clock()
        with suppress(Exception):  # what the engine cannot recover from, the next call raises again
            self.engine.free_memory()
        return True

    def _note_fitting(self) -> None:
        """Submit no more windows at a time than fitted at the last warm-up, until they may grow."""
        fitting = self.engine.fitting_windows
        if fitting is not None and fitting != self._fitting_windows:
            self._common.restrict(self._clock(), min(fitting, self._common.windows or fitting))
        self._fitting_windows = fitting

    def _note(self, outcomes: Mapping[str, Outcome]) -> None:
        """Note what outcomes say of the cameras."""
        for camera, outcome in outcomes.items():
            if isinstance(outcome, AnomalyFrame):
                self._failures.pop(camera, None)
                self._cameras[camera].backoff_s, self._cameras[camera].processed_at_s = 0.0, self._clock()
            elif not isinstance(outcome, ImageError):
                self._failures[camera] = outcome
        for camera, outcome in outcomes.items():
            if is_out_of_memory(outcome):
                own, others = self._cameras[camera], self._cameras.values()
                others_wait = any(other.processed_at_s > own.failed_at_s for other in others if other is not own)
                self.backoffs_s[camera] = own.back_off(self._clock(), others_wait)

    def _windows(self, batch: Images, config: EngineConfig) -> int:
        """How many windows the images have."""
        return sum(windows.count(image.shape[:2], self.engine.crop_hw, config.windows) for image in batch.values())

    def _limit(self, batch: Images, config: EngineConfig) -> int:
        """Most windows that may go through the network at a time."""
        limits = [self._common.windows, *(self._cameras[camera].windows for camera in batch)]
        return min([self.engine.batch_windows_of(config), *filter(None, limits)])


def _without_memory(error: Exception) -> Exception:
    """The exception without what it holds in memory."""
    if is_out_of_memory(error):
        drop_tracebacks(error)
    else:
        clear_traceback_locals(error)  # the traceback is for the log
    return error
