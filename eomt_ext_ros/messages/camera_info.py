"""The calibration of an image, as it is published with it, and as what is in the image is located by it."""

from __future__ import annotations

import copy
from reprlib import repr as _short  # a field of a message may be megabytes long
from typing import Any

from eomt_ext_core.errors import GroundError, ImageError
from eomt_ext_core.ground import CameraModel, camera_model


def image_size_hw(info: Any) -> tuple[int, int]:
    """Give height and width of the images that a ``sensor_msgs/CameraInfo`` describes: its region of interest, binned.

    Source: ``sensor_msgs/CameraInfo.msg``, where 0 stands for no region and for no binning.
    """
    height, width = info.roi.height or info.height, info.roi.width or info.width
    return height // max(1, info.binning_y), width // max(1, info.binning_x)


def published_camera_info(info: Any, header: Any, size_hw: tuple[int, int], published_hw: tuple[int, int]) -> Any:
    """Make a ``CameraInfo`` with another header, for an image that was resized.

    For an image in its own size it is as it was received. For a smaller one it describes the published image alone:
    region of interest and binning are worked into ``k`` and ``p`` and reset, and the centre of pixel (0, 0) stays where
    it is seen, at ((0.5 + u)·scale − 0.5). image_proc's resize node leaves out those halves of a pixel. The
    distortion, which is in units of the focal length, stays.

    Args:
        info: as received; left as it is.
        header: of the image.
        size_hw: of the image.
        published_hw: of the image as it is published.

    Raises:
        ImageError: reason ``"camera_info"``, if it is of another frame or of images of another size.
    """
    _check(info, header, size_hw)
    result = copy.copy(info)
    result.header = header
    if published_hw == size_hw:
        return result
    result.height, result.width = published_hw
    result.k, result.p = info.k.copy(), info.p.copy()
    for matrix, columns in ((result.k, 3), (result.p, 4)):
        _move(matrix, columns, info, published_hw[1] / size_hw[1], published_hw[0] / size_hw[0])
    result.roi = type(info.roi)(do_rectify=info.roi.do_rectify)
    result.binning_x = result.binning_y = 0
    return result


def calibration(info: Any, header: Any, size_hw: tuple[int, int], is_rectified: bool) -> CameraModel:
    """Read the camera's model from a ``CameraInfo``.

    Args:
        info: as received; left as it is.
        header: of the image.
        size_hw: of the image.
        is_rectified: whether the image is: then it is ``p`` that describes it, without distortion.

    Raises:
        GroundError: if it does not belong to the image, or is none.
    """
    try:
        _check(info, header, size_hw)
    except ImageError as error:
        raise GroundError(str(error)) from None
    columns = 4 if is_rectified else 3
    matrix = [float(value) for value in (info.p if is_rectified else info.k)]
    _move(matrix, columns, info, 1.0, 1.0)
    matrix = [value for index, value in enumerate(matrix) if index % columns < 3]
    if is_rectified:
        return camera_model("", size_hw, matrix, ())
    return camera_model(info.distortion_model, size_hw, matrix, info.d)


def _check(info: Any, header: Any, size_hw: tuple[int, int]) -> None:
    """Raise ``ImageError`` if a calibration is not of the image."""
    if info.header.frame_id != header.frame_id:
        raise ImageError(
            f"camera_info must be of the image's frame {_short(header.frame_id)} to go with it, "
            f"got {_short(info.header.frame_id)}: remap camera_info, or have the driver name one frame in both",
            "camera_info",
        )
    described = image_size_hw(info)
    if described != (0, 0) and described != size_hw:  # drivers without a calibration send zeros
        raise ImageError(
            f"camera_info must be of the image's size {size_hw[1]}×{size_hw[0]} to go with it, got "
            f"{described[1]}×{described[0]}: calibrate at this resolution",
            "camera_info",
        )


def _move(matrix: Any, columns: int, info: Any, scale_x: float, scale_y: float) -> None:
    """Turn a matrix of the sensor into one of the image that is read from it, and resized; in place."""
    if not any(matrix):  # of a camera without a calibration
        return
    offset_scale = (
        (info.roi.x_offset, scale_x / max(1, info.binning_x)),
        (info.roi.y_offset, scale_y / max(1, info.binning_y)),
    )
    for row, (offset, scale) in enumerate(offset_scale):
        for column in range(columns):
            shift = scale * (0.5 - offset) - 0.5 if column == 2 else 0.0  # of the principal point
            matrix[row * columns + column] = matrix[row * columns + column] * scale + shift
