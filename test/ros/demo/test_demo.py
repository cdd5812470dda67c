"""The demonstration, whole: three processes, real DDS, and the files that it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("imageio_ffmpeg")

from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

from eomt_ext_core.cli import add_commands, app
from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.images import VideoWriter
from eomt_ext_ros.demo.camera import photo_frames, scene_frames, video_frames

FRAMES = 8


def _demo(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eomt_ext_core.cli", "demo", "--output", str(output), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DOMAIN_ID"}
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)


def test_drawn_scenes_end_to_end(tmp_path: Path) -> None:
    done = _demo(tmp_path, "--frames", str(FRAMES), "--rate-hz", "4")
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "node.log").read_text()
    assert "overlay.mp4" in done.stdout

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames_published"] == FRAMES
    assert 0 < summary["frames_received"] <= FRAMES
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert 0 < summary["anomaly_fraction"] < summary["auprc"] <= 1
    assert 0 <= summary["range_error"] < 0.2
    assert summary["flicker"]["steps"] == summary["frames_received"] - 1

    with AnyReader([tmp_path / "bag"]) as bag:
        read = [(connection.topic, bag.deserialize(data, connection.msgtype)) for connection, _, data in bag.messages()]
    stamps = {
        topic: [(msg.header.stamp.sec, msg.header.stamp.nanosec) for name, msg in read if name == topic]
        for topic in {name for name, _ in read}
    }
    assert len(stamps["/camera/image_raw"]) == len(stamps["/camera/labels"]) == FRAMES
    assert len(stamps["/eomt_ext/output/probability"]) == summary["frames_received"]
    for topic in ("probability", "mask", "overlay"):
        assert set(stamps[f"/eomt_ext/output/{topic}"]) <= set(stamps["/camera/image_raw"])
    assert len(stamps["/eomt_ext/output/obstacle_points"]) == summary["frames_received"]
    probability = next(msg for name, msg in read if name.endswith("/probability"))
    assert (probability.height, probability.width, probability.encoding) == (540, 960, "32FC1")

    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == len(stamps["/eomt_ext/output/overlay"])
    assert capture.read()[1].shape == (540, 960, 3)


def test_a_damaged_checkpoint_ends_it_with_the_reason_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((48, 64, 3), np.uint8))
    source = ["--images", str(tmp_path / "photos"), "--checkpoint", str(tmp_path / "model.safetensors")]
    add_commands()
    missing = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "out"), *source])
    assert "model.safetensors: no such file" in str(missing.exception)
    assert not (tmp_path / "out").exists(), "refused before any work"
    (tmp_path / "model.safetensors").write_bytes(b"no checkpoint")
    assert _demo(tmp_path / "out", *source).returncode == 1
    assert "model.safetensors" in (tmp_path / "out" / "node.log").read_text()


def test_scene_frames_are_labelled_drives_of_one_size() -> None:
    frames = scene_frames(seed=5, count=3, rate_hz=10)
    assert [frame.image_rgb.shape for frame in frames] == [(540, 960, 3)] * 3
    assert all(frame.labels is not None and frame.labels.shape == (540, 960) for frame in frames)
    assert not np.array_equal(frames[0].image_rgb, frames[2].image_rgb)


def test_photos_come_by_name_and_stay_a_second(tmp_path: Path) -> None:
    for name, level in (("b.png", 200), ("a.png", 100)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / os.fsdecode(b"\xe9.png")).write_bytes(b"no image")
    problems: list[str] = []
    frames = list(photo_frames(tmp_path, 2, problems))
    assert [int(frame.image_rgb[0, 0, 0]) for frame in frames] == [100, 100, 200, 200]
    assert ["\\xe9.png: an image must be" in problem for problem in problems] == [True]


def test_a_video_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xe9.mp4")
    with VideoWriter(path, 10) as video:
        for index in range(9):
            video.write(np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8))
    problems: list[str] = []
    assert len(list(video_frames(path, problems))) == 9
    assert not problems
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(list(video_frames(path, problems))) < 9
    assert "of 9 frames could be read" in problems[0]


def test_sources_that_hold_nothing_say_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found none"):
        list(photo_frames(tmp_path, 2, []))
    with pytest.raises(ImageError, match=r"none\.mp4 does not exist"):
        list(video_frames(tmp_path / "none.mp4", []))
