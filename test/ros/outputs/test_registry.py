"""One row for each topic, readable without anything that computes."""

import subprocess
import sys

import numpy as np
import pytest

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.ground import GroundConfig, GroundView, camera_model, locate, pose_from_angles
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.outputs.registry import OUTPUT_NAMES, OUTPUTS, RECORDED
from eomt_ext_ros.outputs.rendering import OnGround, Rendering
from eomt_ext_ros.parameters.node_config import NodeConfig


def test_each_name_is_there_once_and_what_is_recorded_is_published():
    assert len({output.name for output in OUTPUTS}) == len(OUTPUTS)
    assert set(RECORDED) <= set(OUTPUT_NAMES)


def test_launch_files_can_read_it_without_numpy_and_opencv():
    program = "import sys, eomt_ext_ros.outputs.registry; print({'numpy', 'cv2', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_output_has_its_type_and_the_header_of_the_image():
    pytest.importorskip("sensor_msgs")
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header

    header = Header(frame_id="camera_optical")
    probability = np.random.default_rng(0).random((24, 40), np.float32)
    frame = AnomalyFrame(probability, probability > 0.5, np.zeros((24, 40), np.uint8))
    found = find_obstacles(probability, ObstacleConfig(min_area_px=1), threshold=0.5)
    camera = camera_model("", (24, 40), (50.0, 0.0, 20.0, 0.0, 50.0, 5.0, 0.0, 0.0, 1.0), ())
    view, on_ground = GroundView(camera, pose_from_angles(1.5), GroundConfig()), Header(frame_id="base_link")
    rendering = Rendering(
        np.zeros((24, 40, 3), np.uint8),
        frame,
        found,
        NodeConfig(),
        header=header,
        camera_info=CameraInfo(header=header, height=24, width=40),
        on_ground=OnGround(locate(found, view.camera, view.pose, view.config), view, None, on_ground),
    )
    for output in OUTPUTS:
        if output.render is not None and installed_type(output.message_type):
            message = output.message(rendering)
            assert type(message) is installed_type(output.message_type), output.name
            assert message.header == (on_ground if "ground" in output.needs else header), output.name
