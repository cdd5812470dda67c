"""What ``eomt-ext doctor`` says of ROS: the entry point of the core's group ``eomt_ext.checks``."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from eomt_ext_core.about.checks import Check, extra_check
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.process.dds_profile import chosen_profile, transports_chosen

_SHARED_MEMORY = Path("/dev/shm")
_SEGMENT_BYTES = 64 << 20  # of each process under config/fastdds.xml
_PROCESSES = 4  # a camera, the node, rviz2 and a recorder


def checks() -> Iterator[Check]:
    """Check ROS 2 and what the node, ``replay`` and ``demo`` use of it."""
    yield _ros(os.environ)
    yield dds(os.environ)
    yield shared_memory(_SHARED_MEMORY)
    yield _module("cv_bridge", "decodes rare encodings of images; the usual ones need none")
    yield _messages("vision_msgs", "vision_msgs/msg/Detection2DArray", "~/output/obstacles, ~/output/label_info")
    yield _module("tf2_ros", "gives the camera's pose; else set the parameters ground.height_m and so on")
    yield extra_check("bags", ("rosbags", "yaml"), "reads recordings: replay, demo", "bags")


def _ros(environment: Mapping[str, str]) -> Check:
    distribution = environment.get("ROS_DISTRO", "")
    try:
        importlib.import_module("rclpy")
    except Exception as error:  # a half-sourced workspace raises whatever it likes
        way_out = "source /opt/ros/<distribution>/setup.bash, or pip install 'eomt_ext_ros[ros]': the node and demo"
        return Check("ROS 2", "missing", f"no rclpy ({type(error).__name__}: {error})".split("\n")[0], way_out)
    return Check("ROS 2", "good", distribution or "rclpy without a distribution (ROS_DISTRO is not set)")


def dds(environment: Mapping[str, str]) -> Check:
    """Check whether the middleware in force carries large images between processes.

    >>> dds({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}).found
    'rmw_cyclonedds_cpp'
    """
    middleware = environment.get("RMW_IMPLEMENTATION", "")
    if middleware and "fastrtps" not in middleware:
        return Check("DDS", "good", middleware)
    profile = chosen_profile(environment)
    if profile and not Path(profile).is_file():
        return Check("DDS", "missing", f"the profile {profile} does not exist", "correct the variable, or unset it")
    if transports_chosen(environment):
        return Check("DDS", "good", f"Fast DDS, {profile or 'transports chosen by FASTDDS_BUILTIN_TRANSPORTS'}")
    way_out = "anomaly.launch.py sets config/fastdds.xml; start camera drivers and rviz2 under it too"
    return Check("DDS", "missing", "Fast DDS without a profile: it drops most images of a megabyte and more", way_out)


def shared_memory(folder: Path) -> Check:
    """Check the free space for Fast DDS's segments."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("shared memory", "missing", f"{folder}: {error.strerror}", "mount a tmpfs there")
    found, needed = f"{free / 2**20:.0f} MiB free in {folder}", _PROCESSES * _SEGMENT_BYTES
    if free < needed:
        way_out = f"{needed >> 20} MiB hold four processes under config/fastdds.xml: docker run --shm-size=512m"
        return Check("shared memory", "missing", found, way_out)
    return Check("shared memory", "good", found)


def _module(name: str, use: str) -> Check:
    try:
        importlib.import_module(name)
    except Exception as error:  # compiled modules fail in many ways
        reason = str(error).split("\n")[0]
        return Check(name, "missing", f"cannot be imported: {reason}", f"sudo apt install {_package(name)}: {use}")
    return Check(name, "good", "installed")


def _messages(name: str, message_type: str, use: str) -> Check:
    if installed_type(message_type) is None:
        return Check(name, "missing", f"no {message_type}", f"sudo apt install {_package(name)}: {use}")
    return Check(name, "good", "installed")


def _package(name: str) -> str:
    return f"ros-{os.environ.get('ROS_DISTRO') or '<distribution>'}-{name.replace('_', '-')}"
