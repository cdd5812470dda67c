"""Parsing of the launch files' arguments; needs no ROS, and no torch, which ``ros2 launch`` may not have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite, nan

from eomt_ext_ros.outputs.registry import OUTPUT_NAMES, output_topic

NODE = "eomt_ext"
COMPRESSED = "/compressed"


def truth(name: str, text: str) -> bool:
    """Read an argument that is true or false.

    Raises:
        ValueError: if it is neither.
    """
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{name} must be true or false, got {text!r}")
    return text.lower() in ("true", "1")


def number(name: str, text: str, least: float = -inf) -> float:
    """Read an argument that is a number.

    Raises:
        ValueError: if it is none, or below the least.
    """
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise ValueError(f"{name} must be a number, got {text!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {text}")
    return value


def words(text: str) -> list[str]:
    """Read an argument that is a list separated by commas.

    >>> words("front, rear,")
    ['front', 'rear']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def outputs(name: str, text: str) -> list[str]:
    """Read an argument that names outputs.

    Raises:
        ValueError: if it names none, or what is no output.
    """
    named = words(text)
    if not named:
        raise ValueError(f"{name} must name at least one output, got {text!r}")
    unknown = [word for word in named if word not in OUTPUT_NAMES]
    if unknown:
        raise ValueError(f"{name} must be some of {', '.join(OUTPUT_NAMES)}, got {', '.join(unknown)}")
    return named


def full_name(pushed: str, namespace: str) -> str:
    """Give the node's name with its whole namespace.

    Args:
        pushed: the namespace of the group that the launch file is included in.
        namespace: of the node, below that of the group unless it begins with a slash.

    >>> full_name("/car", "front"), full_name("/car", "/front"), full_name("", "")
    ('/car/front/eomt_ext', '/front/eomt_ext', '/eomt_ext')
    """
    path = namespace if namespace.startswith("/") else f"{pushed}/{namespace}"
    return "/" + "/".join([*filter(None, path.split("/")), NODE])


def output_topics(node: str, cameras: Sequence[str], names: Iterable[str]) -> list[str]:
    """Give the topics of the outputs of all cameras.

    Args:
        node: its full name.
        cameras: their names; none stands for a single camera, which has none.
        names: of the outputs.

    >>> output_topics("/eomt_ext", ["front", "rear"], ["mask"])
    ['/eomt_ext/front/output/mask', '/eomt_ext/rear/output/mask']
    """
    names = tuple(names)
    return [output_topic(name, camera, node) for camera in cameras or [""] for name in names]


def input_remappings(image_topic: str, camera_info_topic: str, cameras: Sequence[str]) -> dict[str, str]:
    """Give the rules that lead the inputs of all cameras to their topics.

    Args:
        image_topic: raw, or compressed if it ends in ``/compressed``; ``{camera}`` stands for the name of the camera.
        camera_info_topic: likewise; empty for ``camera_info`` beside the images, where it is by custom.
        cameras: their names; none stands for a single camera, which has none.

    Raises:
        ValueError: if the cameras would share a topic, or ``{camera}`` stands for no name.

    >>> input_remappings("/camera/image", "", [])["~/input/camera_info"]
    '/camera/camera_info'
    """
    given = [topic for topic in (image_topic, camera_info_topic) if topic]
    if len(cameras) > 1 and any("{camera}" not in topic for topic in given):
        raise ValueError(f"topics of several cameras must contain {{camera}} for the name, got {', '.join(given)}")
    if not cameras and any("{camera}" in topic for topic in given):
        raise ValueError(
            f"{{camera}} in a topic needs the argument cameras, got {', '.join(given)} without it: pass "
            "cameras:=front,left,… even if params_file names them"
        )
    raw = image_topic.removesuffix(COMPRESSED)
    if raw and not camera_info_topic:
        folder, slash, _ = raw.rpartition("/")
        camera_info_topic = f"{folder}{slash}camera_info"
    # Both transports, as the choice may be only in params_file.
    topics = {"image": raw, "image/compressed": raw and raw + COMPRESSED, "camera_info": camera_info_topic}
    return {
        f"~/{camera}/input/{name}" if camera else f"~/input/{name}": topic.replace("{camera}", camera)
        for camera in cameras or [""]
        for name, topic in topics.items()
        if topic
    }
