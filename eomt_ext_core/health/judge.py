"""Judge a camera by its images, each against those before it and against what no road looks like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.health.changes import ChannelOrder, Dirt, Frozen, Orientation
from eomt_ext_core.health.config import HealthConfig
from eomt_ext_core.health.sample import Sample, take_sample
from eomt_ext_core.health.signs import is_upside_down, signs_of
from eomt_ext_core.health.verdict import Health, Persistence

_LONGEST_GAP_S = 5.0  # after which an image is not compared with the last one any more


class CameraJudge:
    """Judge a camera; for use by one thread, while others may read ``health``.

    >>> judge = CameraJudge()
    >>> black = np.zeros((64, 96, 3), np.uint8)
    >>> [fault.kind for stamp_s in (0.0, 0.1, 0.4) for fault in judge.look(black, stamp_s, HealthConfig()).faults]
    ['black']

    Attributes:
        health: what is wrong with it now.
    """

    def __init__(self) -> None:
        self.health = Health()
        self._restart()

    def _restart(self) -> None:
        self._persistence = Persistence()
        self._last: tuple[Sample, float] | None = None
        self._frozen, self._dirt, self._order, self._orientation = Frozen(), Dirt(), ChannelOrder(), Orientation()
        self._is_turned = self._shows_turned = False  # since the first image; by the semantic classes

    def look(self, image_rgb: NDArray[np.uint8], stamp_s: float, config: HealthConfig) -> Health:
        """Judge by the next image.

        A stamp that is older than the last one starts over, and so does another size of the images.

        Args:
            image_rgb: (H, W, 3) uint8.
            stamp_s: of the image, in seconds.
            config: when a camera is not well.
        """
        sample = take_sample(image_rgb)
        if self._last is not None and (stamp_s < self._last[1] or sample.lines.shape != self._last[0].lines.shape):
            self._restart()
        signs = signs_of(sample, config)
        if self._last is not None and stamp_s - self._last[1] <= _LONGEST_GAP_S:
            last, since_s = self._last[0], stamp_s - self._last[1]
            if not any(signs.values()):
                signs["swapped_channels"] = self._order.update(last, sample)
                self._is_turned = self._orientation.update(last, sample)
                signs["upside_down"] = self._is_turned or self._shows_turned
            signs["frozen"] = self._frozen.update(last, sample, since_s, config.still_change)
            has_dirt = self._dirt.update(last, sample, since_s, config.dirt_fraction)
            self._persistence.update({"dirt": has_dirt}, stamp_s, 0.0, config.leave_s)  # it has lasted already
        self._last = sample, stamp_s
        return self._conclude(signs, stamp_s, config)

    def look_at_classes(
        self, semantic: NDArray[np.uint8], class_names: Sequence[str], stamp_s: float, config: HealthConfig
    ) -> Health:
        """Judge by what the model takes for sky and road in an image that :meth:`look` has seen.

        Args:
            semantic: (H, W) uint8, ids of the semantic classes.
            class_names: of the classes, in the order of their ids.
            stamp_s: of the image, in seconds.
            config: when a camera is not well.
        """
        if (upside_down := is_upside_down(semantic, class_names)) is None:
            return self.health
        self._shows_turned = upside_down
        return self._conclude({"upside_down": upside_down or self._is_turned}, stamp_s, config)

    def _conclude(self, signs: dict[str, bool], stamp_s: float, config: HealthConfig) -> Health:
        self._persistence.update(signs, stamp_s, config.enter_s, config.leave_s)
        self.health = self._persistence.health
        return self.health
