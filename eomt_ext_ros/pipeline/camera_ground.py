"""A camera over the ground: obstacles in its images, located by its calibration and its pose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import GroundError
from eomt_ext_core.ground import (
    CameraModel,
    CameraPose,
    GroundConfig,
    GroundView,
    locate,
    pose_from_angles,
    pose_from_transform,
)
from eomt_ext_core.ground.contacts import Region
from eomt_ext_core.obstacles import ObstacleFrame, drivable_ids
from eomt_ext_core.obstacles.regions import polygon_mask
from eomt_ext_ros.messages.camera_info import calibration
from eomt_ext_ros.outputs.rendering import OnGround
from eomt_ext_ros.pipeline.transforms import Transforms


class CameraGround:
    """Locate obstacles of one camera, whose calibration and pose are read anew when they change.

    Args:
        transforms: what tf says.
    """

    def __init__(self, transforms: Transforms) -> None:
        self._transforms = transforms
        self._model: CameraModel | None = None
        self._model_of: tuple[Any, ...] = ()
        self._view: GroundView | None = None
        self._view_of: tuple[Any, ...] = ()

    def locate(
        self,
        found: ObstacleFrame,
        info: CameraInfo | None,
        header: Header,
        config: GroundConfig,
        obstacles: ObstacleConfig,
        semantic: NDArray[np.uint8] | None,
        class_names: Sequence[str],
    ) -> OnGround:
        """Locate the obstacles of an image.

        Args:
            found: the obstacles.
            info: the newest calibration.
            header: of the image.
            config: where the camera is.
            obstacles: the region that they are in.
            semantic: (H, W) class ids; only the region ``drivable`` needs them.
            class_names: of the model.

        Raises:
            GroundError: if the calibration or the pose is missing, stale, implausible or another image's.
        """
        if not config.enabled:
            raise GroundError("ground.enabled is false")
        size_hw = found.mask.shape[0], found.mask.shape[1]
        view = self._seen_from(self._camera(info, header, size_hw, config), header, config)
        free = _known_ground(obstacles, size_hw, semantic, class_names)
        frame = locate(found, view.camera, view.pose, config, free if obstacles.region == "polygon" else None)
        return OnGround(frame, view, free, Header(stamp=header.stamp, frame_id=config.frame_id))

    def _camera(
        self, info: CameraInfo | None, header: Header, size_hw: tuple[int, int], config: GroundConfig
    ) -> CameraModel:
        if info is None:
            raise GroundError("no camera_info comes in, and nothing is located without a calibration")
        known = info.k.tobytes(), info.p.tobytes(), tuple(info.d), info.distortion_model, config.rectified
        key = (*known, info.roi, info.binning_x, info.binning_y, info.header.frame_id, header.frame_id, size_hw)
        if self._model is None or key != self._model_of:
            self._model = None
            self._model, self._model_of = calibration(info, header, size_hw, config.rectified), key
        return self._model

    def _seen_from(self, camera: CameraModel, header: Header, config: GroundConfig) -> GroundView:
        transforms = None
        if not config.height_m:
            transforms = self._transforms.lookup(
                config.frame_id, header.frame_id, header.stamp, config.max_transform_age_s
            )
        key = camera, transforms, config
        if self._view is None or key != self._view_of:
            pose: CameraPose
            if transforms is None:
                pose = pose_from_angles(config.height_m, config.pitch_deg, config.roll_deg)
            else:
                pose = pose_from_transform(*transforms)
            self._view, self._view_of = GroundView(camera, pose, config), key
        return self._view


def _known_ground(
    obstacles: ObstacleConfig,
    size_hw: tuple[int, int],
    semantic: NDArray[np.uint8] | None,
    class_names: Sequence[str],
) -> Region | None:
    """The region of obstacles, or of what they stand on; None if they are looked for everywhere."""
    if obstacles.region == "everywhere":
        return None
    if obstacles.region == "polygon":
        inside = polygon_mask(obstacles.polygon, size_hw)
        return lambda row, column: np.asarray(inside[row, column])
    assert semantic is not None, "the engine was asked for it"
    is_drivable = np.zeros(256, np.bool_)
    is_drivable[list(drivable_ids(obstacles, class_names))] = True
    return lambda row, column: np.asarray(is_drivable[semantic[row, column]])
