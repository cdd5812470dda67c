"""Calls of the engine that outlive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_window_count
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.held_frames import empty_frames, forget_frames
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.memory_share import MemoryShare

REST_PERIOD_S = 1.0
"""For which a camera rests at least for whose image memory is short."""
REST_FACTOR = 4.0
"""And as many times as long as all such cameras are tried, one after the other: the others keep most of the time."""

Images = Mapping[str, NDArray[np.uint8]]
Outcome = AnomalyFrame | Exception


class Inference:
    """Call an engine and answer for the image of each camera, with a frame or with the exception that took its place.

    The images of all cameras go together. An exception is narrowed down: each image of the batch is tried alone, so
    that one that cannot be used does not cost the others theirs, and who fails then goes alone for a while.

    Out of memory, the engine's reserve is freed and each image tried once more, alone and in batches of half as many
    windows. Where that fails too, the camera's next image halves them again, down to one window; then memory is freed
    now and then only, as that costs the other cameras their CUDA graphs. Belongs to one thread.

    Args:
        engine: that is called.
        clock: steady, in seconds.

    Attributes:
        rests_s: which cameras are to rest after the last images, and for how long: those for which memory is short.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.rests_s: dict[str, float] = {}
        self._clock = clock
        self._shares: dict[str, MemoryShare] = {}
        self._failures: dict[str, Exception] = {}
        self._frees = self._turns = 0

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

    def describe(self) -> dict[str, str]:
        """The engine in words, and its batch: as configured, as far as model and memory reach. Any thread may ask."""
        most = self.engine.batch_windows_of(self.engine.config)
        less = [
            f"{limit} for {camera}" if camera else str(limit)
            for camera, share in self._shares.copy().items()
            if (limit := share.windows) is not None and limit < most
        ]
        batch = f"{most}, but as memory is short {', '.join(less)}" if less else str(most)
        return {**self.engine.describe(), "batch_windows": batch, "memory freed (times)": str(self._frees)}

    def infer(
        self, images_rgb: Images, config: EngineConfig | None = None, *, semantic: Collection[str] = ()
    ) -> Iterator[dict[str, Outcome]]:
        """Outcomes by camera, in parts as they come: what goes together first, then what goes alone.

        What the engine raises for images is their outcome.

        Args:
            images_rgb: each (H, W, 3) uint8, by camera.
            config: to run under instead of the engine's own.
            semantic: the cameras that want the known class of each pixel too; others may have it.
        """
        config = config or self.engine.config
        self.rests_s = {}
        self._turns += 1
        together, alone = dict[str, NDArray[np.uint8]](), list[Images]()
        for camera, image in images_rgb.items():
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                yield {camera: error}
                continue
            share = self._shares.setdefault(camera, MemoryShare())
            share.begin_turn(self._turns, self._clock())
            share.take_more(min(self.engine.batch_windows_of(config), self._count(image, config)), self._clock())
            if share.is_alone:
                alone.append({camera: image})
            else:
                together[camera] = image
        for batch in filter(None, [together, *alone]):
            outcomes = self._answer(batch, config, semantic)
            self._note(outcomes)
            yield outcomes

    def _answer(self, batch: Images, config: EngineConfig, semantic: Collection[str]) -> dict[str, Outcome]:
        frames = self._call(batch, config, semantic)
        if not isinstance(frames, Exception):
            return dict(frames)
        if is_out_of_memory(frames):
            return self._answer_with_less(batch, frames, config, semantic)
        outcomes: dict[str, Outcome] = dict.fromkeys(batch, frames)
        if len(batch) > 1:
            for camera, image in batch.items():
                outcomes |= self._answer({camera: image}, config, semantic)
        failed = [camera for camera in batch if isinstance(outcomes[camera], Exception)]
        for camera in failed or batch:  # where none fails alone, it is together that they do
            self._shares[camera].go_alone(self._clock())
        return outcomes

    def _answer_with_less(
        self, batch: Images, error: Exception, config: EngineConfig, semantic: Collection[str]
    ) -> dict[str, Outcome]:
        """Halve a batch that was too much, and try each image once more for which that or freeing memory may help."""
        tried = min(self._limit(batch, config), sum(self._count(image, config) for image in batch.values()))
        again = [camera for camera in batch if tried > 1 or self._may_free_for(camera)]
        for camera in batch:
            self._shares[camera].take_less(max(1, tried // 2), self._clock())
        outcomes: dict[str, Outcome] = dict.fromkeys(batch, error)
        if not again:
            return outcomes
        try:
            self._frees += 1
            self.engine.free_memory()
        except Exception as worse:
            forget_frames(worse)
            return outcomes | dict.fromkeys(again, worse)
        for camera in again:
            frames = self._call({camera: batch[camera]}, config, semantic)
            outcomes[camera] = frames if isinstance(frames, Exception) else frames[camera]
            self._shares[camera].was_freed_for(not is_out_of_memory(frames), self._clock())
        return outcomes

    def _call(
        self, batch: Images, config: EngineConfig, semantic: Collection[str]
    ) -> dict[str, AnomalyFrame] | Exception:
        """Call the engine once; an exception holds nothing any more of what the call had in memory."""
        limited = replace(config, batch_windows=self._limit(batch, config))
        with_semantic = any(camera in semantic for camera in batch)
        began_s = self._clock()
        try:
            frames = self.engine.infer_batch(list(batch.values()), semantic=with_semantic, config=limited)
            return dict(zip(batch, frames, strict=True))
        except Exception as error:
            if is_out_of_memory(error):
                forget_frames(error)
            else:
                empty_frames(error)  # the traceback is for the log
            return error
        finally:
            if len(batch) == 1:
                self._shares[next(iter(batch))].took_s += self._clock() - began_s

    def _note(self, outcomes: Mapping[str, Outcome]) -> None:
        """Note what outcomes say of the cameras."""
        for camera, outcome in outcomes.items():
            self._shares[camera].was_short = is_out_of_memory(outcome)
            if isinstance(outcome, AnomalyFrame):
                self._failures.pop(camera, None)
            elif not isinstance(outcome, ImageError):
                self._failures[camera] = outcome
        for camera in outcomes:
            if self._shares[camera].was_short:
                self.rests_s[camera] = rest_s = self._rest_s(camera)
                self._shares[camera].expect(rest_s, self._clock())

    def _rest_s(self, camera: str) -> float:
        if not self._others_have_room(camera):
            return REST_PERIOD_S
        short = sum(share.was_short for share in self._reckoned_with().values())
        return max(REST_PERIOD_S, REST_FACTOR * short * self._shares[camera].took_s)

    def _may_free_for(self, camera: str) -> bool:
        return self._clock() >= self._shares[camera].free_at_s or not self._others_have_room(camera)

    def _others_have_room(self, camera: str) -> bool:
        """Whether there are cameras to be spared."""
        return any(not share.was_short for name, share in self._reckoned_with().items() if name != camera)

    def _reckoned_with(self) -> dict[str, MemoryShare]:
        """Of the cameras that send images: those that had a turn lately, in time or, where turns are long, in turns."""
        now_s, since = self._clock(), self._turns - 2 * len(self._shares)
        return {
            camera: share
            for camera, share in self._shares.items()
            if now_s < share.expected_until_s or share.last_turn >= since
        }

    def _count(self, image: NDArray[np.uint8], config: EngineConfig) -> int:
        return windows.count(image.shape[:2], self.engine.crop_hw, config.windows)

    def _limit(self, batch: Images, config: EngineConfig) -> int:
        """Most windows that go through the network at a time."""
        limits = (self._shares[camera].windows for camera in batch)
        return min([self.engine.batch_windows_of(config), *filter(None, limits)])
