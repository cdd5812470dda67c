"""Trial: one video as four bags (mcap and sqlite3, raw and jpeg), each replayed twice, compared bit by bit.

Usage: python benchmarks/node/replay_trial.py VIDEO CHECKPOINT FOLDER [--frames N]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from eomt_ext_core.config import EngineConfig
from eomt_ext_core.images import VideoReader
from eomt_ext_ros.bags.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    deserialize,
    header_of,
    serialize_image,
    stamp_ns,
    typestore,
)
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.replay.command import run
from eomt_ext_ros.replay.job import ReplayConfig

TOPIC, FRAME_ID = "/camera/image", "camera_optical"
START_NS, STEP_NS = 1_700_000_000_000_000_000, 40_000_000


def frames(video: Path, most: int) -> Iterator[NDArray[np.uint8]]:
    with VideoReader(video) as frames_rgb:
        yield from itertools.islice(frames_rgb, most)


def serialized(image_rgb: NDArray[np.uint8], kind: str, stamp: int) -> bytes:
    if kind == "raw":
        return serialize_image(image_rgb, "rgb8", header_of(stamp, FRAME_ID))
    types = typestore().types
    time_msg = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header = types["std_msgs/msg/Header"](stamp=time_msg, frame_id=FRAME_ID)
    data = cv2.imencode(".jpg", image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].reshape(-1)
    msg = types[COMPRESSED_IMAGE](header=header, format="rgb8; jpeg compressed bgr8", data=data)
    return bytes(typestore().serialize_cdr(msg, COMPRESSED_IMAGE))


def make_bag(folder: Path, video: Path, storage: str, kind: str, most: int) -> int:
    count = 0
    if folder.exists():
        with Reader(folder) as reader:
            return int(reader.message_count)
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        msgtype = IMAGE if kind == "raw" else COMPRESSED_IMAGE
        connection = writer.add_connection(TOPIC, msgtype, typestore=typestore())
        for count, image_rgb in enumerate(frames(video, most), start=1):
            stamp = START_NS + (count - 1) * STEP_NS
            writer.write(connection, stamp + 1000, serialized(image_rgb, kind, stamp))
    return count


def outputs(folder: Path) -> dict[str, Any]:
    """Per topic: stamps, frame ids, and a digest of all pixels; read by rosbags itself."""
    found: dict[str, Any] = {}
    with Reader(folder) as reader:
        for connection, _, data in reader.messages():
            msg = deserialize(bytes(data), connection.msgtype)
            entry = found.setdefault(connection.topic, {"stamps": [], "frame_ids": set(), "digest": hashlib.sha256()})
            entry["stamps"].append(stamp_ns(bytes(data)))
            entry["frame_ids"].add(msg.header.frame_id)
            entry["digest"].update(msg.data)
    for entry in found.values():
        entry["digest"] = entry["digest"].hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("checkpoint")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    node = NodeConfig(checkpoint=args.checkpoint, engine=EngineConfig(device="cpu"))
    config = ReplayConfig(node=node, image_topics=(TOPIC,), threads=args.threads)
    rows = []
    for storage in ("mcap", "sqlite3"):
        for kind in ("raw", "jpeg"):
            bag = args.folder / f"{storage}_{kind}"
            count = make_bag(bag, args.video, storage, kind, args.frames)
            found, seconds, status = [], [], []
            for turn in (1, 2):
                started = time.perf_counter()
                folder = args.folder / f"out_{storage}_{kind}_{turn}"
                status.append(run([bag], folder, config))
                seconds.append(round(time.perf_counter() - started, 1))
                found.append(outputs(folder / "annotated"))
            stamps = [START_NS + number * STEP_NS for number in range(count)]
            rows.append(
                {
                    "bag": bag.name,
                    "frames": count,
                    "processed": {topic: len(entry["stamps"]) for topic, entry in found[0].items()},
                    "exit_status": status,
                    "seconds": seconds,
                    "bit_identical": found[0] == found[1],
                    "stamps_and_frame_ids_kept": all(
                        entry["stamps"] == stamps and entry["frame_ids"] == {FRAME_ID}
                        for turn_found in found
                        for entry in turn_found.values()
                    ),
                    "probability_sha256": found[0]["/eomt_ext/output/probability"]["digest"],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    (args.folder / "trial.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
