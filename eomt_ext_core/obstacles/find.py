"""The obstacles of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError, ImageError

from .components import Components, find_components
from .regions import BLOCK_PX, blocks_near_drivable, check_obstacle_config, drivable_ids, polygon_mask

TrackState = Literal["tentative", "confirmed", "coasting"]
"""Of an obstacle that is followed: seen too seldom yet, certain, certain but not seen in this image."""


@dataclass(frozen=True)
class Obstacle:
    """A connected component of the mask.

    Coordinates are in pixels from the image's top left corner, x to the right and y down; the pixel in column i covers
    [i, i + 1). Subtract 0.5 if whole numbers are to be the centres of pixels, as in OpenCV's camera model.

    Attributes:
        score: largest anomaly probability of its pixels; above the threshold by construction.
        box_xywh: left, top, width and height of the smallest upright box around it; of one that is followed, of the
            box of its track, which holds that one.
        area_px: number of its pixels.
        centroid_xy: mean position of its pixels.
        component: which of the frame's components it is; below 0: none, as it is not seen in this image.
        track_id: by which it is known over time, 1 or above; None if it is not followed, as are the next two.
        state: of that track.
        evidence: from the scores in all its images, as a probability.
    """

    score: float
    box_xywh: tuple[int, int, int, int]
    area_px: int
    centroid_xy: tuple[float, float]
    component: int = field(default=-1, compare=False, repr=False)
    track_id: int | None = None
    state: TrackState | None = None
    evidence: float | None = None

    @property
    def label(self) -> str:
        """Its id as drawn: 7, and 7? while it is tentative, (7) while it coasts; empty without one."""
        if self.track_id is None:
            return ""
        return {"tentative": "{}?", "coasting": "({})"}.get(self.state or "", "{}").format(self.track_id)


@dataclass(frozen=True)
class ObstacleFrame:
    """The obstacles of an image.

    Attributes:
        mask: (H, W) bool, all of them.
        obstacles: the largest first, at most ``max_obstacles``.
        unlisted: how many more there are in the mask.
        coasting: confirmed obstacles that are not in this image, where they are expected.
        components: what the mask was found from, those that are no obstacles included; None: not known.
    """

    mask: NDArray[np.bool_]
    obstacles: list[Obstacle]
    unlisted: int
    coasting: list[Obstacle] = field(default_factory=list)
    components: Components | None = field(default=None, compare=False, repr=False)

    @property
    def listed(self) -> list[Obstacle]:
        """Those in the image and those that coast."""
        return self.obstacles + self.coasting

    def confirmed(self) -> ObstacleFrame:
        """The same without obstacles that are not confirmed; the mask stays that of the image."""
        return replace(self, obstacles=[obstacle for obstacle in self.obstacles if obstacle.state == "confirmed"])


def find_obstacles(
    probability: NDArray[np.float32],
    config: ObstacleConfig,
    *,
    threshold: float,
    semantic: NDArray[np.uint8] | None = None,
    class_names: Sequence[str] = (),
) -> ObstacleFrame:
    """Find the obstacles in an anomaly probability, which itself is left as it is.

    Pixels above ``threshold_low``, cut by the polygon if the region is one, form 8-connected components. A component
    is an obstacle if it holds a pixel above ``threshold`` (hysteresis: Canny, "A computational approach to edge
    detection", 1986), has ``min_area_px`` pixels or more and, if the region is ``drivable``, touches the drivable
    area: one of its pixels is within ``drivable_reach`` of a drivable class, or of a gap that drivable classes enclose,
    for what stands on a road is seldom predicted as road.

    Args:
        probability: (H, W) float32 in [0, 1].
        config: what counts.
        threshold: an obstacle holds a probability above this, in [0, 1].
        semantic: (H, W) uint8 class ids; only the region ``drivable`` needs them.
        class_names: of the model, in the order of the ids.

    Raises:
        ConfigError: as :func:`check_obstacle_config`, or if the region is ``drivable`` and ``semantic`` is missing.
        ImageError: if an array has another shape or type.
    """
    check_obstacle_config(config, threshold, class_names)
    if probability.ndim != 2 or probability.dtype != np.float32:
        raise ImageError(f"probability must be (H, W) float32, got {probability.shape} {probability.dtype}", "shape")
    size_hw = probability.shape[0], probability.shape[1]
    mask = probability > (config.threshold_low if config.threshold_low >= 0 else threshold)
    if config.region == "polygon":
        mask &= polygon_mask(config.polygon, size_hw)
    components = find_components(mask)

    peak = components.largest(probability)
    kept = (peak > threshold) & (components.area_px >= config.min_area_px)
    if config.region == "drivable":
        ids = drivable_ids(config, class_names)
        blocks = blocks_near_drivable(_checked(semantic, size_hw), ids, config.drivable_reach * size_hw[0])
        kept &= components.meet(blocks, BLOCK_PX)
    if not kept.all():
        mask[components.crop] = components.chosen_inside(kept)

    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(-components.area_px[chosen], kind="stable")]
    obstacles = [
        Obstacle(float(peak[i]), (x, y, w, h), int(components.area_px[i]), (u, v), component=int(i))
        for i in chosen[: config.max_obstacles]
        for (x, y, w, h), (u, v) in [(components.box_xywh[i].tolist(), components.centroid_xy[i].tolist())]
    ]
    return ObstacleFrame(mask, obstacles, len(chosen) - len(obstacles), components=components)


def _checked(semantic: NDArray[np.uint8] | None, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    if semantic is None:
        raise ConfigError("region drivable needs the semantic map of the image, got none")
    if semantic.shape != size_hw or semantic.dtype != np.uint8:
        raise ImageError(f"semantic must be {size_hw} uint8, got {semantic.shape} {semantic.dtype}", "shape")
    return semantic
