"""The programs in examples/, each run as a reader would."""

import importlib.util
import runpy
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import LaserScan

from eomt_ext_core.images import VideoReader, VideoWriter
from eomt_ext_core.scenes import SceneConfig, render_video
from eomt_ext_ros.bags import BagWriter
from eomt_ext_ros.bags.messages import header_of, serialize_image

FOLDER = Path(__file__).resolve().parents[2] / "examples"
MOST_LINES = 40


@pytest.fixture(scope="module")
def scenes():
    """Two frames of a drive with an obstacle near the camera."""
    return [scene.image_rgb for scene in render_video(1, 2, SceneConfig(size_hw=(270, 480)))]


@pytest.fixture(scope="module")
def images(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, image_rgb in zip(("front", "left"), scenes, strict=True):
        cv2.imwrite(str(folder / f"{name}.png"), image_rgb[..., ::-1])
    return folder


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_each_is_short_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MOST_LINES
    assert f"python examples/{path.name}" in text.split('"""')[1]
    assert path.name in (FOLDER.parent / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["bag", "custom_score", "image", "several_cameras", "video"])
def test_without_arguments_each_says_which_it_takes(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with pytest.raises(SystemExit, match=rf"python examples/{name}\.py \w+"):
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def test_image(images, tmp_path, capsys):
    load("image").main(str(images / "front.png"), str(tmp_path / "overlay.png"))
    assert cv2.imread(str(tmp_path / "overlay.png")).shape == (270, 480, 3)
    assert "is unexpected, largest probability 0." in capsys.readouterr().out


def test_image_of_a_real_road(tmp_path):
    photograph = FOLDER.parents[1] / "shared" / "road_frames" / "solidWhiteRight.jpg"
    if not photograph.is_file():
        pytest.skip("no folder shared/road_frames beside the checkout")
    load("image").main(str(photograph), str(tmp_path / "overlay.png"))
    assert cv2.imread(str(tmp_path / "overlay.png")).shape == cv2.imread(str(photograph)).shape


def test_video(scenes, tmp_path):
    with VideoWriter(tmp_path / "drive.mp4", 10.0) as video:
        for image_rgb in scenes:
            video.write(image_rgb)
    load("video").main(str(tmp_path / "drive.mp4"), str(tmp_path / "overlay.mp4"))
    with VideoReader(tmp_path / "overlay.mp4") as video:
        assert [frame.shape for frame in video] == [(270, 480, 3)] * 2


def test_several_cameras(images, capsys):
    load("several_cameras").main(str(images / "front.png"), str(images / "left.png"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["front", "left"]


def test_custom_score_is_high_on_borders_of_classes(images, tmp_path):
    load("custom_score").main(str(images / "front.png"), str(tmp_path / "heatmap.png"))
    heat = cv2.imread(str(tmp_path / "heatmap.png"))
    assert heat.shape == (270, 480, 3)
    assert heat.reshape(-1, 3).max(axis=0).min() > 100, "all colours of the scale are there"


def test_bag_lists_the_worst_first(scenes, tmp_path, capsys):
    with BagWriter(tmp_path / "bag") as writer:
        for second, image_rgb in enumerate(scenes, 1):
            data = serialize_image(image_rgb, "rgb8", header_of(second * 1_000_000_000, "optical"))
            writer.write("/camera", second, data)
    load("bag").main(str(tmp_path / "bag"), "/camera")
    fractions = [float(line.split(": ")[1].split("%")[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(fractions) == 2
    assert fractions == sorted(fractions, reverse=True)


def test_costmap_marks_what_the_scan_hits():
    rclpy.init()
    try:
        module = load("costmap_consumer")
        grid = module.Grid()
        publisher = rclpy.create_node("sender").create_publisher(LaserScan, "/eomt_ext/output/scan", 1)
        scan = LaserScan(angle_min=-np.pi, angle_increment=np.pi / 2, ranges=[np.nan, 3.2, 6.2, np.inf])
        deadline = time.monotonic() + 30
        while not grid.cells.any() and time.monotonic() < deadline:
            publisher.publish(scan)
            rclpy.spin_once(grid, timeout_sec=0.1)
        marked = (np.argwhere(grid.cells) - module.CELLS // 2) * module.CELL_M
        np.testing.assert_allclose(sorted(map(tuple, marked)), [(-0.0, -3.5), (6.0, 0.0)], atol=module.CELL_M)
    finally:
        rclpy.shutdown()
