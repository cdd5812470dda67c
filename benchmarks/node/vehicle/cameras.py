"""Cameras that publish drawn streets at a steady rate: a program.

python -m vehicle.cameras --topics /a/image /b/image --rate-hz 10 --seconds 60 --size 480 640 --listeners 1
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from eomt_ext_core.scenes import SceneConfig, SceneVideo
from eomt_ext_ros.messages.images import to_image_msg

PICTURES = 8
START_TIMEOUT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", nargs="+", required=True)
    parser.add_argument("--rate-hz", type=float, required=True, help="of each camera")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, help="height and width")
    parser.add_argument("--listeners", type=int, default=1, help="to wait for on each topic")
    args = parser.parse_args()
    video = SceneVideo(7, SceneConfig(size_hw=tuple(args.size), obstacle_probability=0.9), fps=5.0)
    messages = [
        to_image_msg(video.frame(index).image_rgb, "rgb8", Header(frame_id="camera")) for index in range(PICTURES)
    ]
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # SIGTERM ends it at any time
    node = Node("cameras")
    publishers = [node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in args.topics]
    deadline = time.monotonic() + START_TIMEOUT_S
    while any(publisher.get_subscription_count() < args.listeners for publisher in publishers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not {args.listeners} subscriptions of each of {args.topics}")
        time.sleep(0.05)
    time.sleep(1.0)  # until the listeners behind the node have found it
    sent = 0
    began = time.monotonic()
    for publisher, msg in zip(itertools.cycle(publishers), itertools.cycle(messages), strict=False):
        time.sleep(max(0.0, began + sent / len(publishers) / args.rate_hz - time.monotonic()))
        elapsed = time.monotonic() - began
        if elapsed > args.seconds:
            break
        msg.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(msg)
        sent += 1
    print(json.dumps({"sent": sent, "seconds": elapsed}), flush=True)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
