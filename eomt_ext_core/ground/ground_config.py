"""Where the camera is over the ground, how well that is known, and how far it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.config import check_options, option
from eomt_ext_core.errors import ConfigError


@dataclass(frozen=True)
class GroundConfig:
    """How obstacles are located on the ground.

    Angles are those of REP 103: pitch is positive with the camera's nose down, roll with its right side down.

    Raises:
        ConfigError: if an option breaks its rule.
    """

    enabled: bool = option(True, "locate obstacles on the ground if an output of it is subscribed to", live=True)
    frame_id: str = option(
        "base_link",
        "frame of all that is in metres; the ground is its plane z = 0, or that of base_footprint if there is one",
        live=True,
    )
    height_m: float = option(
        0.0,
        "height of a single camera above the ground, which then stands at the origin of frame_id and looks along its "
        "x axis; 0: the camera's pose comes from tf",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    pitch_deg: float = option(
        0.0, "pitch of the camera if its height is given, nose down is positive", minimum=-90.0, maximum=90.0, live=True
    )
    roll_deg: float = option(
        0.0,
        "roll of the camera if its height is given, right side down is positive",
        minimum=-180.0,
        maximum=180.0,
        live=True,
    )
    pitch_deviation_deg: float = option(
        0.5, "standard deviation of the pitch, also of one from tf", minimum=0.0, maximum=45.0, live=True
    )
    roll_deviation_deg: float = option(
        0.5, "standard deviation of the roll, also of one from tf", minimum=0.0, maximum=45.0, live=True
    )
    height_deviation_m: float = option(
        0.02, "standard deviation of the height, also of one from tf", minimum=0.0, maximum=10.0, live=True
    )
    max_range_m: float = option(
        30.0, "obstacles that stand farther from frame_id's origin are not located", minimum=1.0, maximum=1000.0,
        live=True,
    )  # fmt: skip
    max_transform_age_s: float = option(
        0.5, "a transform that moves and is older than the image by more is stale", minimum=0.0, live=True
    )
    rectified: bool = option(
        False, "the images are rectified: the calibration's P without distortion is used, not K and D", live=True
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not self.frame_id.strip("/ "):
            raise ConfigError(f"frame_id must name a frame, such as base_link, got {self.frame_id!r}")
