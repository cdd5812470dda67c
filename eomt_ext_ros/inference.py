"""Calls of the engine that outlive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_window_count
from eomt_ext_ros.engine import Engine
from eomt_ext_ros.held_frames import empty_frames, forget_frames
from eomt_ext_ros.memory import is_out_of_memory

REST_PERIOD_S = 1.0
"""For which a camera rests at least for whose images memory is short."""
REST_FACTOR = 4.0
"""Or that many times as long as its last image took: it is to cost the others a fifth of their time at most."""
REGROW_PERIOD_S = 60.0
"""After which a camera's batch that was halved is doubled."""

Images = Mapping[str, NDArray[np.uint8]]
Outcome = AnomalyFrame | Exception


@dataclass
class _Share:
    """What memory allows the images of a camera.

    Attributes:
        is_alone: whether they have batches of their own.
        windows: most in such a batch; none for as many as configured.
        more_at_s: when it may have more.
        was_short: whether the last of them was too much.
        frees: for how many of the last, one after the other, memory had to be freed.
    """

    is_alone: bool = False
    windows: int | None = None
    more_at_s: float = math.inf
    was_short: bool = False
    frees: int = 0

    def take_less(self, most: int, now_s: float) -> None:
        """Go on alone, with so many windows."""
        self.is_alone, self.windows, self.more_at_s = True, most, now_s + REGROW_PERIOD_S

    def take_more(self, most: int, now_s: float) -> None:
        """Double it where it is time to; it is as configured for a while before others are taken along."""
        if now_s < self.more_at_s:
            return
        self.more_at_s = now_s + REGROW_PERIOD_S
        if self.windows is None:
            self.is_alone = False
        else:
            self.windows = 2 * self.windows if 2 * self.windows < most else None


class Inference:
    """Call an engine and answer for the image of each camera, with a frame or with the exception that took its place.

    An exception in a batch is narrowed down: each of its images is tried alone, so that one that cannot be used does
    not cost the others theirs; until its camera has a frame, the next ones are alone from the start.

    Out of memory, the engine's reserve is freed and each image tried once more, alone and in batches of half as many
    windows. Where that fails too, the camera's next image halves them again, down to one window. An image that is too
    much even then fails without further ado, as freeing memory costs the other cameras their CUDA graphs. A minute
    after the last such step the camera's batches are doubled, and in the end its images go with the others again.

    Belongs to one thread.

    Args:
        engine: that is called.
        clock: steady, in seconds.

    Attributes:
        rests_s: for how long which cameras are to rest since the last call: those for which memory is short, also where
            their images are answered and it has to be freed for each.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.rests_s: dict[str, float] = {}
        self._clock = clock
        self._shares: dict[str, _Share] = {}
        self._failures: dict[str, Exception] = {}

    @property
    def failures(self) -> dict[str, Exception]:
        """By camera, why its last image has no frame; an unusable image is no failure. Any thread may ask."""
        return self._failures.copy()

    def forget_failures(self) -> None:
        """Begin anew, as when the node is activated; what memory allows is still known."""
        self._failures.clear()

    def describe(self) -> dict[str, str]:
        """The engine in words, and its batch: as configured, as far as model and memory reach. Any thread may ask."""
        most = self._most(self.engine.config)
        less = [
            f"{limit} for {camera}" if camera else str(limit)
            for camera, share in self._shares.copy().items()
            if (limit := share.windows) is not None and limit < most
        ]
        batch = f"{most}, but as memory is short {', '.join(less)}" if less else str(most)
        return {**self.engine.describe(), "batch_windows": batch}

    def infer(
        self, images_rgb: Images, config: EngineConfig | None = None, *, semantic: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """An outcome for each camera's image, in order; what the engine raises for images is one.

        Args:
            images_rgb: each (H, W, 3) uint8, by camera.
            config: to run under instead of the engine's own.
            semantic: the cameras that want the known class of each pixel too; others may have it.
        """
        config = config or self.engine.config
        outcomes: dict[str, Outcome] = {}
        together, alone = dict[str, NDArray[np.uint8]](), list[Images]()
        for camera, image in images_rgb.items():
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                outcomes[camera] = error
            else:
                share = self._shares.setdefault(camera, _Share())
                share.take_more(min(self._most(config), self._count(image, config)), self._clock())
                if share.is_alone or camera in self._failures:
                    alone.append({camera: image})
                else:
                    together[camera] = image
        self.rests_s = {}
        for batch in filter(None, [together, *alone]):
            outcomes |= self._answer_and_note(batch, config, semantic)
        return {camera: outcomes[camera] for camera in images_rgb}

    def _answer_and_note(self, batch: Images, config: EngineConfig, semantic: Collection[str]) -> dict[str, Outcome]:
        """Answer a batch, and note what that says of its cameras."""
        began_s, frees = self._clock(), {camera: self._shares[camera].frees for camera in batch}
        outcomes = self._answer(batch, config, semantic)
        rest_s = max(REST_PERIOD_S, REST_FACTOR * (self._clock() - began_s))
        for camera, outcome in outcomes.items():
            if isinstance(outcome, AnomalyFrame):
                self._failures.pop(camera, None)
            elif not isinstance(outcome, ImageError):
                self._failures[camera] = outcome
            share = self._shares[camera]
            share.was_short = is_out_of_memory(outcome)
            if share.frees == frees[camera]:
                share.frees = 0
            if share.was_short or share.frees > 1:
                self.rests_s[camera] = rest_s
        return outcomes

    def _answer(self, batch: Images, config: EngineConfig, semantic: Collection[str]) -> dict[str, Outcome]:
        frames = self._call(batch, config, semantic)
        if not isinstance(frames, Exception):
            return dict(frames)
        if is_out_of_memory(frames):
            return self._answer_with_less(batch, frames, config, semantic)
        if len(batch) == 1:
            return dict.fromkeys(batch, frames)
        outcomes: dict[str, Outcome] = {}
        for camera, image in batch.items():
            outcomes |= self._answer({camera: image}, config, semantic)
        return outcomes

    def _answer_with_less(
        self, batch: Images, error: Exception, config: EngineConfig, semantic: Collection[str]
    ) -> dict[str, Outcome]:
        """Halve a batch that was too much, and try each image once more for which that or freeing memory may help."""
        tried = min(self._limit(batch, config), sum(self._count(image, config) for image in batch.values()))
        again = []
        for camera in batch:
            share = self._shares[camera]
            if tried > 1 or not share.was_short:
                again.append(camera)
                share.frees += 1
            share.take_less(max(1, tried // 2), self._clock())
        outcomes: dict[str, Outcome] = dict.fromkeys(batch, error)
        if again:
            try:
                self.engine.free_memory()
            except Exception as worse:
                forget_frames(worse)
                return outcomes | dict.fromkeys(again, worse)
        for camera in again:
            frames = self._call({camera: batch[camera]}, config, semantic)
            outcomes[camera] = frames if isinstance(frames, Exception) else frames[camera]
        return outcomes

    def _call(
        self, batch: Images, config: EngineConfig, semantic: Collection[str]
    ) -> dict[str, AnomalyFrame] | Exception:
        """Call the engine once; an exception holds nothing any more of what the call had in memory."""
        limited = replace(config, batch_windows=self._limit(batch, config))
        with_semantic = any(camera in semantic for camera in batch)
        try:
            frames = self.engine.infer_batch(list(batch.values()), semantic=with_semantic, config=limited)
        except Exception as error:
            if is_out_of_memory(error):
                forget_frames(error)
            else:
                empty_frames(error)  # the traceback is for the log
            return error
        return dict(zip(batch, frames, strict=True))

    def _most(self, config: EngineConfig) -> int:
        return min(config.batch_windows, self.engine.max_batch_windows)

    def _count(self, image: NDArray[np.uint8], config: EngineConfig) -> int:
        return windows.count(image.shape[:2], self.engine.crop_hw, config.windows)

    def _limit(self, batch: Images, config: EngineConfig) -> int:
        """Most windows that go through the network at a time."""
        limits = (self._shares[camera].windows for camera in batch)
        return min([self._most(config), *filter(None, limits)])
