"""The recorder of the demonstration: keeps all messages, and writes a bag, a video and metrics from them."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.evaluation import PixelMetrics
from eomt_ext_core.files import atomic_write, valid_text
from eomt_ext_core.images import VideoWriter
from eomt_ext_ros.bags import BagWriter
from eomt_ext_ros.bags.messages import IMAGE, deserialize, plane, stamp_ns
from eomt_ext_ros.demo.flicker import Frame
from eomt_ext_ros.messages.installed import installed_type

POINTS = "sensor_msgs/msg/PointCloud2"


@dataclass
class Recording:
    """Serialised messages by topic, each with the time (ns) at which it was received, and the type of each topic."""

    messages: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    types: dict[str, str] = field(default_factory=dict)

    def add(self, topic: str, data: bytes) -> None:
        """Keep a message received now."""
        self.messages[topic].append((time.time_ns(), data))

    def count(self, topic: str) -> int:
        """Count the messages of a topic."""
        return len(self.messages.get(topic, ()))

    def latencies_ms(self, topic: str) -> list[float]:
        """Return the time from the stamp of each message to its receipt."""
        return [(received_ns - stamp_ns(data)) / 1e6 for received_ns, data in self.messages.get(topic, ())]


def subscribe(node: Any, recording: Recording, topics: Mapping[str, str]) -> None:
    """Record topics, by their names, of these types, without decoding the messages."""
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy

    reliable = QoSProfile(depth=20, reliability=QoSReliabilityPolicy.RELIABLE)
    for topic, kind in topics.items():
        recording.types[topic] = kind

        def keep(data: bytes, topic: str = topic) -> None:
            recording.add(topic, data)

        node.create_subscription(installed_type(kind), topic, keep, reliable, raw=True)


def write_bag(recording: Recording, folder: Path) -> None:
    """Write a rosbag2 (mcap, zstd chunks) that ``ros2 bag play`` and Foxglove open."""
    merged = [(received_ns, topic, data) for topic, sent in recording.messages.items() for received_ns, data in sent]
    with BagWriter(folder) as bag:
        for topic in sorted(recording.messages):
            bag.add_topic(topic, recording.types[topic])
        for received_ns, topic, data in sorted(merged, key=lambda entry: entry[0]):
            bag.write(topic, received_ns, data)


def write_video(recording: Recording, topic: str, path: Path, rate_hz: float) -> None:
    """Write the images of a topic as a video that browsers play."""
    with atomic_write(path) as temporary, VideoWriter(temporary, rate_hz) as video:
        for _, data in recording.messages.get(topic, ()):
            video.write(_pixels(data))


def measure(recording: Recording, probability_topic: str, label_topic: str) -> dict[str, float]:
    """Measure AuPRC, FPR95 and the fraction of anomalous pixels of the published probabilities.

    Empty if no processed frame is labelled; without AuPRC and FPR95 if no pixel is anomalous.
    """
    labels = {stamp_ns(data): data for _, data in recording.messages.get(label_topic, ())}
    metrics = PixelMetrics()
    for _, data in recording.messages.get(probability_topic, ()):
        if stamp_ns(data) in labels:
            metrics.update(_pixels(data), _pixels(labels[stamp_ns(data)]))
    result = metrics.compute()
    if not result.num_valid:
        return {}
    figures = {"auprc": result.auprc, "fpr95": result.fpr95, "anomaly_fraction": result.anomaly_fraction}
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def measure_ranges(recording: Recording, points_topic: str, truth_topic: str) -> dict[str, float]:
    """The median error of the range of obstacles, over the range, and of how many; empty if none was located.

    For each true obstacle from 5 to 30 m that one counts, of those located in its bearing, whose range is nearest.
    """
    truths = {stamp_ns(data): data for _, data in recording.messages.get(truth_topic, ())}
    errors = []
    for _, data in recording.messages.get(points_topic, ()):
        if stamp_ns(data) not in truths:
            continue
        points = _points(data)
        nearest = [points[points["id"] == each] for each in np.unique(points["id"])]
        for truth in _points(truths[stamp_ns(data)]):
            if not 5 <= truth["x"] <= 30:
                continue
            beside = [np.abs(each["y"] / each["x"] - truth["y"] / truth["x"]) * truth["x"] for each in nearest]
            ranges = [each["x"].min() for each, m in zip(nearest, beside, strict=True) if m.min() < truth["width"] / 2]
            errors += [min(abs(float(each / truth["x"]) - 1) for each in ranges)] if ranges else []
    return {"range_error": round(float(np.median(errors)), 4), "ranges": len(errors)} if errors else {}


def masked_frames(recording: Recording, probability_topic: str, mask_topic: str) -> Iterator[Frame]:
    """Give the published probabilities that have a mask, each with it."""
    masks = {stamp_ns(data): data for _, data in recording.messages.get(mask_topic, ())}
    for _, data in recording.messages.get(probability_topic, ()):
        if (stamp := stamp_ns(data)) in masks:
            yield stamp * 1e-9, _pixels(data), _pixels(masks[stamp]) > 0


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write the summary as JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(valid_text(summary), indent=2) + "\n", encoding="utf-8")


def _points(data: bytes) -> NDArray[Any]:
    """The points of a serialised cloud of ours: a structured array."""
    msg = deserialize(data, POINTS)
    kinds = [(each.name, {7: "<f4", 5: "<i4"}[each.datatype]) for each in msg.fields]
    return np.frombuffer(msg.data.tobytes(), kinds)


def _pixels(data: bytes) -> NDArray[Any]:
    """Decode an image that the demonstration published."""
    return plane(deserialize(data, IMAGE))
