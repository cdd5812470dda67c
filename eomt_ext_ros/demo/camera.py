"""The camera process of the demonstration: publishes frames at a steady rate, with their labels if there are any."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.files import printable
from eomt_ext_core.images import VideoReader, list_images, read_rgb
from eomt_ext_core.scenes import SceneConfig, SceneObstacle, SceneVideo

IMAGE_TOPIC = "/camera/image_raw"
LABEL_TOPIC = "/camera/labels"
INFO_TOPIC = "/camera/camera_info"
TRUTH_TOPIC = "/camera/obstacles"
FRAME_ID, GROUND_FRAME_ID = "camera_optical", "base_link"
HEIGHT_M = 1.4
"""Of the camera in drawn scenes, above the ground and the origin of ``GROUND_FRAME_ID``."""
SCENE_SIZE_HW = (540, 960)
FRAMES_PER_DRIVE = 50
SECONDS_PER_PHOTO = 1.0
MATCH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class CameraFrame:
    """An image and, if it is drawn, what is known of it.

    Attributes:
        image_rgb: (H, W, 3) uint8.
        labels: (H, W) uint8.
        matrix: (3, 3) float64, of the camera.
        obstacles: where they stand.
    """

    image_rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None
    matrix: NDArray[np.float64] | None = None
    obstacles: tuple[SceneObstacle, ...] = ()


def scene_frames(seed: int, count: int, rate_hz: float) -> list[CameraFrame]:
    """Render drives through procedural scenes, all frames before the first is published."""
    config = SceneConfig(size_hw=SCENE_SIZE_HW, obstacle_probability=0.9, camera_height_m=HEIGHT_M)
    shots = [(seed + index // FRAMES_PER_DRIVE, index % FRAMES_PER_DRIVE) for index in range(count)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(_render_shot, *zip(*[(*shot, config, rate_hz) for shot in shots], strict=True), chunksize=8)
        )


def _render_shot(seed: int, index: int, config: SceneConfig, rate_hz: float) -> CameraFrame:
    scene = SceneVideo(seed, config, fps=rate_hz).frame(index)
    return CameraFrame(scene.image_rgb, scene.labels, scene.camera.matrix, scene.obstacles)


def video_frames(path: str | Path, problems: list[str]) -> Iterator[CameraFrame]:
    """Read the frames of a video file; if it is truncated, add that to ``problems`` after the last frame.

    Raises:
        ImageError: if it cannot be opened.
    """
    with VideoReader(path) as video:
        yield from map(CameraFrame, video)
    if problem := video.problem():
        problems.append(problem)


def camera_frames(number: int) -> Iterator[CameraFrame]:
    """Read frames from the camera with this number.

    Raises:
        DatasetError: if it cannot be opened.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise DatasetError(f"OpenCV cannot open camera {number}: check the number and that no program uses it")
    try:
        while True:
            is_open, image_bgr = capture.read()
            if not is_open:
                return
            yield CameraFrame(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
    finally:
        capture.release()


def photo_frames(folder: Path, rate_hz: float, problems: list[str]) -> Iterator[CameraFrame]:
    """Read the images of a folder, sorted by name and upright, each shown for a second.

    Images that cannot be read are added to ``problems``.

    Raises:
        DatasetError: if none can be read.
    """
    num_read = 0
    for path in list_images(folder):
        try:
            frame = CameraFrame(read_rgb(path, turn=True))
        except ImageError as error:
            problems.append(str(error))
            continue
        num_read += 1
        yield from itertools.repeat(frame, max(1, round(SECONDS_PER_PHOTO * rate_hz)))
    if not num_read:
        first = f"; the first problem: {problems[0]}" if problems else ""
        raise DatasetError(f"{printable(folder)} must contain images that can be read, found none{first}")


def publish(frames: Iterable[CameraFrame], rate_hz: float, listeners: int) -> int:
    """Wait for ``listeners`` subscribers of the images and one of the labels, then publish frames at a rate.

    Returns the number of frames.

    Raises:
        TimeoutError: if the subscribers do not appear.
    """
    import rclpy
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2
    from std_msgs.msg import Header

    from eomt_ext_ros.messages.images import to_image_msg

    rclpy.init()
    node = rclpy.create_node("demo_camera")
    reliable = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
    image_publisher = node.create_publisher(Image, IMAGE_TOPIC, reliable)
    label_publisher = node.create_publisher(Image, LABEL_TOPIC, reliable)
    info_publisher = node.create_publisher(CameraInfo, INFO_TOPIC, reliable)
    truth_publisher = node.create_publisher(PointCloud2, TRUTH_TOPIC, reliable)
    deadline = time.monotonic() + MATCH_TIMEOUT_S
    while image_publisher.get_subscription_count() < listeners or not label_publisher.get_subscription_count():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{IMAGE_TOPIC} must have {listeners} subscribers after {MATCH_TIMEOUT_S:.0f} s, got "
                f"{image_publisher.get_subscription_count()}"
            )
        time.sleep(0.02)
    count = 0
    started = time.monotonic()
    for count, frame in enumerate(frames, start=1):
        time.sleep(max(0.0, started + (count - 1) / rate_hz - time.monotonic()))
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id=FRAME_ID)
        if frame.labels is not None:
            label_publisher.publish(to_image_msg(frame.labels, "mono8", header))
        if frame.matrix is not None:
            info_publisher.publish(_calibration(frame.matrix, frame.image_rgb.shape, header))
            truth_publisher.publish(_truth(frame.obstacles, header.stamp))
        image_publisher.publish(to_image_msg(frame.image_rgb, "rgb8", header))
    time.sleep(0.5)  # a reliable writer loses the samples that it still holds when it is destroyed
    node.destroy_node()
    rclpy.shutdown()
    return count


def _calibration(matrix: NDArray[np.float64], shape: tuple[int, ...], header: Any) -> Any:
    from sensor_msgs.msg import CameraInfo

    info = CameraInfo(header=header, height=shape[0], width=shape[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.k[:] = matrix.ravel()
    info.r[:] = np.eye(3).ravel()
    info.p[:] = np.pad(matrix, ((0, 0), (0, 1))).ravel()
    return info


def _truth(obstacles: tuple[SceneObstacle, ...], stamp: Any) -> Any:
    """A point for each obstacle, where it stands, with its width."""
    from std_msgs.msg import Header

    from eomt_ext_ros.messages.ground_messages import to_cloud

    rows = [(item.forward_m, item.left_m, 0.0, item.width_m, item.id) for item in obstacles]
    points = np.array(rows, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("width", "<f4"), ("id", "<i4")])
    return to_cloud(points, Header(stamp=stamp, frame_id=GROUND_FRAME_ID))


def announce(**facts: Any) -> None:
    """Send facts to the parent process, as a line of JSON."""
    print(json.dumps(facts), flush=True)


def main() -> None:
    """Publish frames from the source named by the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, required=True, help="maximum number of frames; 0 for all")
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--listeners", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--video")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--camera", type=int)
    args = parser.parse_args()
    with exit_on_error("camera"):
        frames: Iterable[CameraFrame]
        problems: list[str] = []
        if args.camera is not None:
            frames = camera_frames(args.camera)
        elif args.video is not None:
            frames = video_frames(args.video, problems)
        elif args.images is not None:
            frames = photo_frames(args.images, args.rate_hz, problems)
        else:
            frames = scene_frames(args.seed, args.frames, args.rate_hz)
        if args.camera is None:
            frames = list(itertools.islice(frames, args.frames or None))
            announce(frames=len(frames), problems=problems)
        else:
            frames = itertools.islice(frames, args.frames or None)
        announce(published=publish(frames, args.rate_hz, args.listeners))


if __name__ == "__main__":
    main()
