"""The tracks of SegmentMeIfYouCan: the smallest obstacles that count (Chan et al. 2021, arXiv 2104.14812)."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.errors import ConfigError


@dataclass(frozen=True)
class SegmentTrack:
    """A benchmark track: the smallest components that count, in pixels."""

    name: str
    min_predicted_px: int
    min_ground_truth_px: int

    def __post_init__(self) -> None:
        if self.min_predicted_px < 1 or self.min_ground_truth_px < 1:
            raise ConfigError(
                f"minimal sizes of the track {self.name!r} must be at least 1 px, "
                f"got {self.min_predicted_px} predicted and {self.min_ground_truth_px} ground truth"
            )


ANOMALY_TRACK = SegmentTrack("anomaly", min_predicted_px=500, min_ground_truth_px=100)
OBSTACLE_TRACK = SegmentTrack("obstacle", min_predicted_px=50, min_ground_truth_px=10)
