"""How obstacles are followed from image to image."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.config import ObstacleConfig, check_options, option
from eomt_ext_core.errors import ConfigError


@dataclass(frozen=True)
class TrackingConfig:
    """How obstacles are followed from image to image.

    Images are those that are processed, at whatever rate.

    Raises:
        ConfigError: if an option breaks its rule, or ``keep_evidence`` is above ``confirm_evidence``.
    """

    enabled: bool = option(True, "give obstacles ids that they keep from image to image", live=True)
    confirm_frames: int = option(
        1, "fewest images that an obstacle is seen in before it is confirmed", minimum=1, maximum=1000, live=True
    )
    confirm_evidence: float = option(
        0.96,
        "probability, from the scores of all its images, from which an obstacle is confirmed",
        minimum=0.0,
        maximum=0.999,
        live=True,
    )
    keep_evidence: float = option(
        0.7,
        "probability below which a confirmed obstacle is tentative again, at most confirm_evidence; 0: never",
        minimum=0.0,
        maximum=0.999,
        live=True,
    )
    coast_frames: int = option(
        3, "most images in a row for which an obstacle that is not seen is kept", minimum=0, maximum=1000, live=True
    )
    memory_frames: float = option(
        6.0, "images after which the evidence of an image is forgotten, to 1/e", minimum=0.1, live=True
    )
    reset_after_s: float = option(
        1.0, "seconds between two images after which all obstacles are new ones", minimum=0.01, live=True
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.keep_evidence > self.confirm_evidence:
            raise ConfigError(
                f"keep_evidence must be at most confirm_evidence {self.confirm_evidence:g}, got {self.keep_evidence:g}"
            )


def check_confirmed_only(obstacles: ObstacleConfig, tracking: TrackingConfig) -> None:
    """Check the two settings against each other.

    Raises:
        ConfigError: if only confirmed obstacles are to be listed, and nothing confirms them.
    """
    if obstacles.confirmed_only and not tracking.enabled:
        raise ConfigError("confirmed_only needs tracking, which is off: switch tracking on, or list all obstacles")
