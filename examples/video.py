"""Follow obstacles through a video: python examples/video.py drive.mp4 overlay.mp4"""

import sys

from eomt_ext_core import AnomalyEngine
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.images import VideoReader, VideoWriter
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.tracking import Tracker, TrackingConfig
from eomt_ext_core.visualization import overlay


def main(source: str, result: str) -> None:
    engine, tracker = AnomalyEngine.load("demo"), Tracker()
    with VideoReader(source) as video, VideoWriter(result, video.rate_hz) as drawn:
        for index, image_rgb in enumerate(video):
            time_s = index / video.rate_hz
            frame = engine.infer(image_rgb)
            found = find_obstacles(frame.probability, ObstacleConfig(min_area_px=60), threshold=engine.threshold)
            found = tracker.follow(found, time_s, TrackingConfig(), threshold=engine.threshold)
            for obstacle in found.listed:
                print(f"{time_s:6.2f} s  obstacle {obstacle.label:5} {obstacle.state}, score {obstacle.score:.2f}")
            boxes, labels = [each.box_xywh for each in found.listed], [each.label for each in found.listed]
            drawn.write(overlay(image_rgb, frame.probability, frame.mask, boxes_xywh=boxes, labels=labels))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
