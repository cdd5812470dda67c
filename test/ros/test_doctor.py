"""What ``eomt-ext doctor`` says of ROS and DDS."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from eomt_ext_ros import doctor
from eomt_ext_ros.doctor import checks, dds, shared_memory

PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"


def test_fast_dds_without_a_profile_is_named_with_the_way_out() -> None:
    check = dds({})
    assert check.level == "missing"
    assert "config/fastdds.xml" in check.way_out


@pytest.mark.parametrize(
    ("environment", "level", "found"),
    [
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}, "good", "fastdds.xml"),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}, "missing", "/nowhere.xml does not exist"),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, "good", "FASTDDS_BUILTIN_TRANSPORTS"),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "good", "rmw_zenoh_cpp"),
    ],
)
def test_the_profile_in_force_is_named(environment: dict[str, str], level: str, found: str) -> None:
    check = dds(environment)
    assert check.level == level
    assert found in check.found


def test_docker_s_own_shared_memory_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=64 << 20))
    check = shared_memory(Path("/dev/shm"))
    assert (check.level, check.found) == ("missing", "64 MiB free in /dev/shm")
    assert "--shm-size" in check.way_out


def test_a_missing_message_type_says_what_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_type", lambda name: None)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    found = {check.name: check for check in checks()}
    assert found["vision_msgs"].way_out.startswith("sudo apt install ros-jazzy-vision-msgs: ~/output/obstacles")
    assert found["ROS 2"].found == "jazzy"
