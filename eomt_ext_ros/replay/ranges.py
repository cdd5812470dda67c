"""How far obstacles of a bag's camera are: by its recorded calibration and the height and angles it is mounted at."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from eomt_ext_core.errors import DatasetError, GroundError, ImageError
from eomt_ext_core.ground import CameraModel, GroundConfig, locate, pose_from_angles
from eomt_ext_core.obstacles import ObstacleFrame
from eomt_ext_core.tracking.record import Range
from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.messages import deserialize
from eomt_ext_ros.messages.camera_info import calibration
from eomt_ext_ros.replay.topics import listed

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_STAMP_END = 12  # of a serialised message: encapsulation, seconds, nanoseconds


class Ranges:
    """Give the range of each obstacle, by the newest calibration received until its image, else by the first one.

    Args:
        bag: that holds the calibrations.
        topic: of ``sensor_msgs/CameraInfo``.
        config: with the height and angles of the camera.
        problems: takes a line if the bag has no such messages.
    """

    def __init__(self, bag: Bag, topic: str, config: GroundConfig, problems: list[str]) -> None:
        self._bag, self._config = bag, config
        self._pose = pose_from_angles(config.height_m, config.pitch_deg, config.roll_deg)
        self._messages = [each for each in bag.messages([topic]) if each.msgtype == CAMERA_INFO]
        self._times_ns = [each.time_ns for each in self._messages]
        self._camera: CameraModel | None = None
        self._camera_of: tuple[Any, ...] = ()
        if not self._messages:
            known = sorted(name for name, each in bag.topics.items() if each.msgtype == CAMERA_INFO)
            problems.append(f"no calibration comes from {topic}; the bag's topics of {CAMERA_INFO} are {listed(known)}")

    def of(self, found: ObstacleFrame, header: Any, time_ns: int) -> list[Range | None]:
        """Give the ranges of the listed obstacles; None for one that is not seen to stand on the ground.

        Args:
            found: in an image.
            header: of the image.
            time_ns: at which the image was received.

        Raises:
            GroundError: if there is no calibration that fits the image.
        """
        size_hw = found.mask.shape[0], found.mask.shape[1]
        frame = locate(found, self._camera_at(time_ns, header, size_hw), self._pose, self._config)
        known = {id(each.obstacle): (each.range_m, each.sigma_range_m) for each in frame.obstacles}
        return [known.get(id(each)) for each in found.listed]

    def _camera_at(self, time_ns: int, header: Any, size_hw: tuple[int, int]) -> CameraModel:
        if not self._messages:
            raise GroundError("there is no calibration")
        newest = self._messages[max(0, bisect_right(self._times_ns, time_ns) - 1)]
        try:
            data = self._bag.read(newest)
            key = data[_STAMP_END:], header.frame_id, size_hw
            if self._camera is None or key != self._camera_of:
                self._camera = calibration(deserialize(data, CAMERA_INFO), header, size_hw, self._config.rectified)
                self._camera_of = key
        except (DatasetError, ImageError) as error:
            raise GroundError(f"a calibration cannot be read: {error}") from error
        return self._camera
