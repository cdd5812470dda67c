"""Obstacles in metres, from the node to a consumer like Nav2's, over real DDS; tf2_ros, in no wheel, is a stand-in."""

import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, PointField
from std_msgs.msg import Header

from eomt_ext_core.ground import GroundConfig
from eomt_ext_ros.messages.images import to_image_msg
from eomt_ext_ros.outputs import rendering

DOCS = Path(__file__).resolve().parents[3] / "docs"
HEADER = Header(stamp=Time(sec=1000), frame_id="camera_optical")
# 1.5 m above the road 100 pixels are a radian: 25 rows below the horizon are 6 m ahead.
K = [100.0, 0.0, 39.5, 0.0, 100.0, 9.5, 0.0, 0.0, 1.0]
OPTICAL = (-0.5, 0.5, -0.5, 0.5)  # of a camera that looks along x
STATIC = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def calibration(**changes):
    info = CameraInfo(header=HEADER, height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k[:] = K
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def road(stamp_s=1000, *boxes):
    """An image with obstacles x, y, width, height, by default one that stands 6 m ahead, 1.2 m wide."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    for x, y, width, height in boxes or [(30, 20, 20, 15)]:
        pixels[y : y + height, x : x + width, 0] = 204
    return to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=stamp_s), frame_id="camera_optical"))


class TransformError(Exception):
    pass


class Buffer:
    """Like tf2_ros's, for frames that hang on the target directly."""

    newest = None

    def __init__(self):
        self.known = {}
        Buffer.newest = self

    def can_transform(self, target, source, time):
        return (target, source) in self.known

    def lookup_transform(self, target, source, time):
        found = self.known.get((target, source))
        if found is None:
            raise TransformError(f"{source} does not exist")
        if time.nanoseconds and found.header.stamp.sec and time.nanoseconds > found.header.stamp.sec * 10**9:
            raise TransformError("extrapolation into the future")
        return found


class TransformListener:
    """Listens to single transforms, as tf2_msgs's type of ``/tf_static`` is in no wheel."""

    def __init__(self, buffer, node):
        self._node = node
        self._subscription = node.create_subscription(
            TransformStamped,
            "/tf_static",
            lambda msg: buffer.known.update({(msg.header.frame_id, msg.child_frame_id): msg}),
            STATIC,
        )

    def unregister(self):
        self._node.destroy_subscription(self._subscription)


@pytest.fixture
def tf2_ros(monkeypatch):
    module = types.ModuleType("tf2_ros")
    module.Buffer, module.TransformListener, module.TransformException = Buffer, TransformListener, TransformError
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


@pytest.fixture
def make(stand_in):
    """Build rigs that know their calibration."""

    def build(*outputs, info=None, **parameters):
        rig = stand_in(**{"obstacles__min_area_px": 1, "ground__max_range_m": 20.0, **parameters})
        rig.start(*outputs)
        rig.send_camera_info(info or calibration())
        return rig

    return build


def points_of(cloud):
    """As sensor_msgs_py.point_cloud2.read_points reads them, from what the message says of itself."""
    kinds = {PointField.FLOAT32: "<f4", PointField.INT32: "<i4"}
    assert not cloud.is_bigendian
    layout = {
        "names": [field.name for field in cloud.fields],
        "formats": [kinds[field.datatype] for field in cloud.fields],
        "offsets": [field.offset for field in cloud.fields],
        "itemsize": cloud.point_step,
    }
    assert len(cloud.data) == cloud.row_step * cloud.height == cloud.point_step * cloud.width
    return np.frombuffer(cloud.data, np.dtype(layout))


class Costmap:
    """Nav2's obstacle layer, set as a page says: marks where scans end, and clears up to there.

    ``height``: of the scan in the costmap's frame, a little below the ground by the rounding of transforms.
    """

    def __init__(self, page):
        yaml = pytest.importorskip("yaml")
        recipe = re.search(r"^```yaml\n(local_costmap:.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
        layer = yaml.safe_load(recipe[1])["local_costmap"]["local_costmap"]["ros__parameters"]["obstacle_layer"]
        self._layer = {"min_obstacle_height": 0.0, "max_obstacle_height": 2.0} | layer
        self._source = layer[layer["observation_sources"]]
        self.marked, self.cleared = [], []

    def take(self, scan, height=-1e-6):
        for part in (self._layer, self._source):
            assert part["min_obstacle_height"] <= height <= part["max_obstacle_height"], "or every beam is dropped"
        assert self._source["topic"] == "/eomt_ext/output/scan"
        assert self._source["inf_is_valid"]
        assert self._source["obstacle_max_range"] < scan.range_max, "or every free beam ends in an obstacle"
        for beam, beam_range in enumerate(scan.ranges):
            angle = scan.angle_min + beam * scan.angle_increment
            if not math.isfinite(beam_range) and beam_range > 0:  # Nav2 puts these just below the largest range
                self.cleared.append(angle)
            elif scan.range_min <= beam_range < min(scan.range_max, self._source["obstacle_max_range"]):
                self.marked.append((beam_range * math.cos(angle), beam_range * math.sin(angle)))


def test_costmap_marks_the_obstacle_and_clears_the_road(make):
    rig = make("scan", "obstacle_points", ground__height_m=1.5, ground__max_range_m=GroundConfig().max_range_m)
    scan = rig.answer(road(), "scan")
    assert scan.header == Header(stamp=HEADER.stamp, frame_id="base_link")
    assert scan.angle_min == pytest.approx(-math.pi)
    assert scan.angle_max == pytest.approx(scan.angle_min + (len(scan.ranges) - 1) * scan.angle_increment)
    for page in ("tutorials/costmap.md", "vehicle/nav2.md"):
        costmap = Costmap(page)
        costmap.take(scan)
        x, y = np.array(costmap.marked).T
        np.testing.assert_allclose(x, 6, rtol=0.01)
        assert (y.min(), y.max()) == pytest.approx((-0.57, 0.57), abs=0.05)
        assert {math.copysign(1, angle) for angle in costmap.cleared} == {-1, 1}
        assert all(0.09 < abs(angle) < 0.4 for angle in costmap.cleared), "beside it, in the field of view"

    rig.spin_until(lambda: rig.messages("obstacle_points"), "the points")
    cloud = rig.messages("obstacle_points")[0]
    assert (cloud.header, cloud.height, cloud.is_dense) == (scan.header, 1, True)
    points = points_of(cloud)
    assert points.dtype.names == ("x", "y", "z", "probability", "id", "sigma_range")
    np.testing.assert_allclose(points["x"], 6, rtol=1e-5)
    np.testing.assert_allclose(points["z"], 0, atol=1e-6)
    np.testing.assert_allclose(points["probability"], 0.8)
    assert set(points["id"]) == {1}
    assert (points["sigma_range"] > 0).all()


def test_pose_comes_from_tf_static(make, tf2_ros):
    rig = make("obstacle_points")
    publisher = rig.client.create_publisher(TransformStamped, "/tf_static", STATIC)
    for child, x, z, turn in (
        ("camera_optical", 2.0, 1.0, OPTICAL),
        ("base_footprint", 0.0, -0.5, (0.0, 0.0, 0.0, 1.0)),
    ):
        msg = TransformStamped(header=Header(frame_id="base_link"), child_frame_id=child)
        msg.transform.translation.x, msg.transform.translation.z = x, z
        at = msg.transform.rotation
        at.x, at.y, at.z, at.w = turn
        publisher.publish(msg)
    rig.send(road(1))
    rig.spin_until(lambda: Buffer.newest is not None and len(Buffer.newest.known) == 2, "the transforms")
    points = points_of(rig.answer(road(2), "obstacle_points"))
    np.testing.assert_allclose(points["x"], 8, rtol=1e-5)
    np.testing.assert_allclose(points["z"], -0.5, atol=1e-6)

    moving = TransformStamped(header=Header(frame_id="base_link", stamp=Time(sec=10)), child_frame_id="camera_optical")
    moving.transform = Buffer.newest.known["base_link", "camera_optical"].transform
    Buffer.newest.known["base_link", "camera_optical"] = moving
    rig.answer(road(10), "obstacle_points")
    rig.send(road(12))
    rig.spin_until_counted("skipped", 2)
    assert "is stale: 2.000 s from the image" in rig.diagnostics()["camera"].message
    rig.change_state("deactivate")
    rig.change_state("cleanup")
    rig.spin_until(lambda: not publisher.get_subscription_count(), "the listener to be gone")


@pytest.mark.parametrize(
    ("info", "parameters", "why"),
    [
        (calibration(k=np.zeros(9)), {"ground__height_m": 1.5}, "the camera is not calibrated"),
        (calibration(width=160), {"ground__height_m": 1.5}, "image's size 80×48 to go with it, got 160×48"),
        (calibration(distortion_model="mine"), {"ground__height_m": 1.5}, "the distortion model must be one of"),
        (calibration(), {}, "tf2_ros is not installed"),
        (calibration(), {"ground__height_m": 1.5, "ground__enabled": False}, "ground.enabled is false"),
    ],
)
def test_missing_calibration_or_pose_is_reported(make, info, parameters, why, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    rig = make("scan", "obstacle_points", "mask", info=info, **parameters)
    rig.answer(rig.stamped(road()), "mask")
    assert rig.messages("scan") == rig.messages("obstacle_points") == []
    status = rig.diagnostics()["camera"]
    assert status.level == b"\x01"
    assert "no ground output: " in status.message
    assert why in status.message
    assert rig.node.counts["withheld/scan"] == rig.node.counts["withheld/obstacle_points"] == 1


def test_the_reason_goes_when_the_ground_is_known_again(make):
    rig = make("obstacle_points", ground__height_m=1.5, ground__enabled=False)
    rig.send(rig.stamped(road()))
    rig.spin_until_counted("skipped")
    assert "no ground output" in rig.diagnostics()["camera"].message
    assert rig.set(ground__enabled=True, ground__height_m=3.0) == ""
    points = points_of(rig.answer(rig.stamped(road()), "obstacle_points"))
    np.testing.assert_allclose(points["x"], 12, rtol=1e-5)
    assert "no ground output" not in rig.diagnostics()["camera"].message


def test_nothing_is_located_for_those_who_read_pixels(make, monkeypatch):
    from eomt_ext_ros.pipeline.camera_ground import CameraGround

    monkeypatch.setattr(CameraGround, "locate", lambda *_: pytest.fail("nobody asked"))
    rig = make("mask", ground__height_m=1.5)
    rig.answer(rig.stamped(road()), "mask")


def test_binned_and_rectified_images_agree(make):
    info = calibration(height=200, width=200, binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 160, 96
    info.k[:] = [200.0, 0.0, 99.5, 0.0, 200.0, 29.5, 0.0, 0.0, 1.0]
    info.p[:] = [200.0, 0.0, 99.5, 0.0, 0.0, 200.0, 29.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    rig = make("obstacle_points", info=info, ground__height_m=1.5)
    np.testing.assert_allclose(points_of(rig.answer(road(1), "obstacle_points"))["x"], 6, rtol=1e-5)
    info.k[0] = info.k[4] = 150.0
    rig.send_camera_info(info)
    assert rig.set(ground__rectified=True) == ""
    np.testing.assert_allclose(points_of(rig.answer(road(2), "obstacle_points"))["x"], 6, rtol=1e-5)


def test_several_cameras_need_tf(stand_in):
    rig = stand_in(cameras=["front", "rear"])
    assert "with several cameras" in rig.set(ground__height_m=1.5)


def test_overlay_has_the_range_if_known(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    written = []
    draw = rendering.outline
    monkeypatch.setattr(rendering, "outline", lambda *args: written.append(args[3]) or draw(*args))
    rig = make("overlay", tracking__enabled=False)
    rig.answer(rig.stamped(road()), "overlay")
    assert "no ground output" not in rig.diagnostics()["camera"].message
    assert rig.set(ground__height_m=1.5) == ""
    rig.answer(rig.stamped(road()), "overlay")
    assert written == [[""], ["6.0 m"]]
