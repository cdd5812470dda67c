"""When a camera is not well."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.config import check_options, option


@dataclass(frozen=True)
class HealthConfig:
    """When a camera is not well. Levels are those of 8-bit images; times are differences of stamps.

    Raises:
        ConfigError: if an option breaks its rule.
    """

    enabled: bool = option(True, "judge each decoded image, at less than a millisecond", live=True)
    require: bool = option(
        False, "publish nothing of the images of a camera that has a fault of level ERROR", live=True
    )
    enter_s: float = option(
        0.3,
        "seconds for which each image must show a fault before it is reported; dirt takes 0.8 s by itself",
        minimum=0.0,
        live=True,
    )
    leave_s: float = option(
        1.0, "seconds for which no image may show a fault before it is over", minimum=0.0, live=True
    )
    black_level: float = option(
        20.0, "an image is black if hardly a pixel is brighter than this", minimum=0.0, maximum=255.0, live=True
    )
    white_fraction: float = option(
        0.55, "an image is over-exposed if this fraction of it is white", minimum=0.01, maximum=1.0, live=True
    )
    least_sharpness: float = option(
        0.062,
        "contrast over 1/480 of the image's width as a fraction of that over 1/15, below which there is no detail if "
        "the camera has shown twice as much; one that has not needs a quarter less; 0 judges by contrast alone",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    still_change: float = option(
        0.12,
        "mean change of a pixel from image to image, in levels, up to which the content is the same: less than the "
        "noise of the sensor",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    dirt_fraction: float = option(
        0.012,
        "fraction of the image that must stop changing at once, while the rest goes on, to be dirt",
        minimum=0.002,
        maximum=0.5,
        live=True,
    )

    def __post_init__(self) -> None:
        check_options(self)
