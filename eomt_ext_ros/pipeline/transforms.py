"""What tf says of a camera's pose, through tf2_ros if that is installed."""

from __future__ import annotations

import importlib
import threading
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from eomt_ext_core.errors import GroundError
from eomt_ext_core.ground.camera_pose import Transform

FOOTPRINT = "base_footprint"
"""The frame of REP 120 whose plane z = 0 is the ground."""


class Transforms:
    """Listen to tf from the first question on: a listener costs the executor's thread time with every message.

    For use by the inference thread; the listener is made and ended in the executor's.

    Args:
        node: that listens.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._tf2: Any = None
        self._buffer: Any = None
        self._listener: Any = None
        self._is_open = True

    def lookup(
        self, frame_id: str, camera_frame: str, stamp: Any, max_age_s: float
    ) -> tuple[Transform, Transform | None]:
        """Give the transforms to a frame from a camera and from the ground; None: the ground is that frame's own plane.

        Args:
            frame_id: in which obstacles are located.
            camera_frame: the optical frame of the camera.
            stamp: of the image.
            max_age_s: by how much a transform that moves may be older than the image.

        Raises:
            GroundError: if there is none, or it is stale.
        """
        self._listen()
        camera = self._transform(frame_id, camera_frame, stamp, max_age_s)
        if frame_id == FOOTPRINT or not self._buffer.can_transform(frame_id, FOOTPRINT, Time()):
            return camera, None
        return camera, self._transform(frame_id, FOOTPRINT, stamp, max_age_s)

    def close(self) -> None:
        """Listen no more; in the executor's thread."""
        with self._lock:
            self._is_open = False
            if self._listener is not None:
                self._listener.unregister()
                self._listener = None

    def _listen(self) -> None:
        if self._buffer is not None:
            return
        try:
            self._tf2 = importlib.import_module("tf2_ros")
        except ImportError as error:
            raise GroundError(
                f"the camera's pose is not known, as tf2_ros is not installed ({error}): install it, or set "
                "ground.height_m"
            ) from None
        self._buffer = self._tf2.Buffer()
        executor = self._node.executor
        if executor is None:
            self._begin()
        else:
            executor.create_task(self._begin)

    def _begin(self) -> None:
        with self._lock:
            if self._is_open:
                self._listener = self._tf2.TransformListener(self._buffer, self._node)

    def _transform(self, target: str, source: str, stamp: Any, max_age_s: float) -> Transform:
        try:
            try:
                found = self._buffer.lookup_transform(target, source, Time.from_msg(stamp))
            except self._tf2.TransformException:
                found = self._buffer.lookup_transform(target, source, Time())
        except self._tf2.TransformException as error:
            raise GroundError(f"tf has no transform from {source[:60]!r} to {target!r}: {error}") from None
        at_ns, image_ns = Time.from_msg(found.header.stamp).nanoseconds, Time.from_msg(stamp).nanoseconds
        apart_s = abs(image_ns - at_ns) * 1e-9
        if at_ns and image_ns and apart_s > max_age_s:  # a static transform has no stamp
            raise GroundError(
                f"the transform from {source[:60]!r} to {target!r} is stale: {apart_s:.3f} s from the image, more than "
                f"ground.max_transform_age_s ({max_age_s:g} s)"
            )
        at, turn = found.transform.translation, found.transform.rotation
        return (at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w)
