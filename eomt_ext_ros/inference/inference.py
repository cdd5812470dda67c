"""Calls of the engine that survive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_window_count
from eomt_ext_ros.inference.batch_backoff import BatchBackoff
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.tracebacks import clear_traceback_locals, drop_tracebacks

FREE_PERIOD_S, LONGEST_FREE_PERIOD_S = 10.0, 240.0

Images = Mapping[str, NDArray[np.uint8]]
Outcome = AnomalyFrame | Exception


class Inference:
    """Call an engine for batches of images, and give for each a frame or the exception that took its place.

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
        if engine.fitting_windows is not None:
            self._common.restrict(clock(), engine.fitting_windows)
        self._cameras: dict[str, BatchBackoff] = {}
        self._failures: dict[str, Exception] = {}
        self._frees, self._free_at_s, self._free_period_s = 0, -math.inf, FREE_PERIOD_S

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

        ``batch_windows`` is such as ``16 (reduced to 8, to 5 for front: out of memory)``.
        """
        configured = self.engine.batch_windows_of(config)
        limits = dict[str, int]()  # a single camera has no name, as the common batch has none
        for camera, backoff in [("", self._common), *self._cameras.copy().items()]:
            if backoff.windows is not None and backoff.windows < limits.get(camera, configured):
                limits[camera] = backoff.windows
        reduced = [f"to {limit} for {camera}" if camera else f"to {limit}" for camera, limit in limits.items()]
        batch = f"{configured} (reduced {', '.join(reduced)}: out of memory)" if reduced else str(configured)
        return {**self.engine.describe(config), "batch_windows": batch, "memory freed (times)": str(self._frees)}

    def infer(
        self, images_rgb: Images, config: EngineConfig, *, semantic: Collection[str] = ()
    ) -> Iterator[Mapping[str, Outcome]]:
        """Give outcomes by camera, in parts as they come: those of the common batch first, then of each camera alone.

        What the engine raises for an image is its outcome.

        Args:
            images_rgb: each (H, W, 3) uint8, by camera.
            config: what the engine runs under.
            semantic: the cameras that need the semantic classes too; others may have them.
        """
        self.backoffs_s = {}
        together, alone = dict[str, NDArray[np.uint8]](), list[Images]()
        for camera, image in images_rgb.items():
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                yield {camera: error}
                continue
            own = self._cameras.setdefault(camera, BatchBackoff())
            own.grow(self._clock(), self._windows({camera: image}, config))
            if own.is_alone:
                alone.append({camera: image})
            else:
                together[camera] = image
        self._common.grow(self._clock(), self.engine.batch_windows_of(config))
        for batch in filter(None, [together, *alone]):
            tried = min(self._limit(batch, config), self._windows(batch, config))
            outcomes = self._call(batch, config, semantic)
            if isinstance(outcomes, Exception):
                outcomes = self._retry(batch, outcomes, tried, config, semantic)
            self._note(outcomes)
            yield outcomes

    def _call(
        self, batch: Images, config: EngineConfig, semantic: Collection[str]
    ) -> Mapping[str, Outcome] | Exception:
        """Call the engine once; an exception holds nothing any more of what the call had in memory."""
        limit = self._limit(batch, config)
        with_semantic = any(camera in semantic for camera in batch)
        try:
            frames = self.engine.infer_batch(
                list(batch.values()), semantic=with_semantic, config=replace(config, batch_windows=limit)
            )
            return dict(zip(batch, frames, strict=True))
        except Exception as error:
            is_short = is_out_of_memory(error)
            if is_short:
                drop_tracebacks(error)
            else:
                clear_traceback_locals(error)  # the traceback is for the log
            if len(batch) == 1:
                half = max(1, min(limit, self._windows(batch, config)) // 2)
                self._cameras[next(iter(batch))].restrict(self._clock(), half if is_short else None)
            return error

    def _retry(
        self, batch: Images, error: Exception, tried: int, config: EngineConfig, semantic: Collection[str]
    ) -> Mapping[str, Outcome]:
        """Try each image of a failed batch alone; if memory was short, with half of the windows that were tried."""
        is_short, limit = is_out_of_memory(error), self._common.windows
        is_freed = is_short and self._free()
        if len(batch) == 1 and not is_freed and not (is_short and tried > 1):
            return dict.fromkeys(batch, error)
        if len(batch) > 1 and is_short:
            self._common.windows = max(1, tried // 2)
        outcomes = dict[str, Outcome]()
        for camera, image in batch.items():
            alone = self._call({camera: image}, config, semantic)
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
        self._frees += 1
        with suppress(Exception):  # what the engine cannot recover from, the next call raises again
            self.engine.free_memory()
        return True

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
