"""The recorder of the demonstration: keeps what is sent, and makes a bag, a video and figures of it."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from eomt_ext_core.evaluation import PixelMetrics
from eomt_ext_core.files import valid_text, whole_file
from eomt_ext_core.images import VideoWriter
from eomt_ext_ros.bags import BagWriter
from eomt_ext_ros.bags.messages import IMAGE, deserialize, plane, stamp_ns
from eomt_ext_ros.demo.flicker import Frame


@dataclass
class Recording:
    """Serialised messages by topic, each with the time (ns) at which it came."""

    messages: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, topic: str, data: bytes) -> None:
        """Keep a message that has just come."""
        self.messages[topic].append((time.time_ns(), data))

    def count(self, topic: str) -> int:
        """Messages of a topic so far."""
        return len(self.messages.get(topic, ()))

    def latencies_ms(self, topic: str) -> list[float]:
        """Time from each message's stamp to its coming."""
        return [(came_ns - stamp_ns(data)) / 1e6 for came_ns, data in self.messages.get(topic, ())]


def subscribe(node: Any, recording: Recording, topics: list[str]) -> None:
    """Record image topics as they come, without decoding them."""
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from sensor_msgs.msg import Image

    reliable = QoSProfile(depth=20, reliability=QoSReliabilityPolicy.RELIABLE)
    for topic in topics:

        def keep(data: bytes, topic: str = topic) -> None:
            recording.add(topic, data)

        node.create_subscription(Image, topic, keep, reliable, raw=True)


def write_bag(recording: Recording, folder: Path) -> None:
    """Write a rosbag2 (mcap, zstd chunks) that ``ros2 bag play`` and Foxglove open."""
    merged = [(came_ns, topic, data) for topic, sent in recording.messages.items() for came_ns, data in sent]
    with BagWriter(folder) as bag:
        for topic in sorted(recording.messages):
            bag.add_topic(topic)
        for came_ns, topic, data in sorted(merged, key=lambda entry: entry[0]):
            bag.write(topic, came_ns, data)


def write_video(recording: Recording, topic: str, path: Path, rate_hz: float) -> None:
    """Write the images of a topic as a video that browsers play."""
    with whole_file(path) as temporary, VideoWriter(temporary, rate_hz) as video:
        for _, data in recording.messages.get(topic, ()):
            video.write(_pixels(data))


def measure(recording: Recording, probability_topic: str, label_topic: str) -> dict[str, float]:
    """AuPRC, FPR95 and the share of anomalous pixels of the published probabilities.

    Empty where no answered frame is labelled; the first two are left out where no pixel of them is anomalous.
    """
    labels = {stamp_ns(data): data for _, data in recording.messages.get(label_topic, ())}
    metrics = PixelMetrics()
    for _, data in recording.messages.get(probability_topic, ()):
        if stamp_ns(data) in labels:
            metrics.update(_pixels(data), _pixels(labels[stamp_ns(data)]))
    result = metrics.compute()
    if not result.num_valid:
        return {}
    figures = {"auprc": result.auprc, "fpr95": result.fpr95, "anomaly_share": result.anomaly_share}
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def masked_frames(recording: Recording, probability_topic: str, mask_topic: str) -> Iterator[Frame]:
    """Give the published probabilities that have a mask, each with it."""
    masks = {stamp_ns(data): data for _, data in recording.messages.get(mask_topic, ())}
    for _, data in recording.messages.get(probability_topic, ()):
        if (stamp := stamp_ns(data)) in masks:
            yield stamp * 1e-9, _pixels(data), _pixels(masks[stamp]) > 0


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write the figures as JSON."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(valid_text(summary), indent=2) + "\n", encoding="utf-8")


def _pixels(data: bytes) -> NDArray[Any]:
    """The pixels of a serialised image of ours."""
    return plane(deserialize(data, IMAGE))
