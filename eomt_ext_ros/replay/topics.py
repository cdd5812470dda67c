"""Names of cameras, frames and output topics in a replay."""

from __future__ import annotations

from collections.abc import Sequence

from eomt_ext_ros.outputs import registry

NODE = "/eomt_ext"
OUTPUTS = {output.name: output for output in registry.OUTPUTS if output.encoding and "semantic" not in output.needs}
"""The outputs that a replay can write: images that need no semantic map."""
_MAX_LISTED = 20


def camera_names(image_topics: Sequence[str]) -> dict[str, str]:
    """Name each of several cameras after the namespace of its topic, or after the whole topic if that is ambiguous.

    A single camera has an empty name.

    >>> camera_names(["/camera/image_raw"])
    {'/camera/image_raw': ''}
    >>> camera_names(["/car/front/image_raw", "/car/rear/image_raw/compressed"])
    {'/car/front/image_raw': 'car_front', '/car/rear/image_raw/compressed': 'car_rear'}
    >>> camera_names(["/front/left", "/front/right"])
    {'/front/left': 'front_left', '/front/right': 'front_right'}
    """
    if len(image_topics) == 1:
        return {image_topics[0]: ""}
    bases = [[part for part in topic.removesuffix("/compressed").split("/") if part] for topic in image_topics]
    names = ["_".join(base[:-1] or base) for base in bases]
    if len(set(names)) < len(names):
        names = ["_".join(base) for base in bases]
    if len(set(names)) < len(names):
        names = ["_".join(part for part in topic.split("/") if part) for topic in image_topics]
    return dict(zip(image_topics, names, strict=True))


def listed(names: Sequence[str]) -> str:
    """Join names for a message, at most 20 of them.

    >>> listed(["/a", "/b"]), listed([]), listed(["/a"] * 30)[-16:]
    ('/a, /b', 'none', '/a and 10 others')
    """
    more = f" and {len(names) - _MAX_LISTED} others" if len(names) > _MAX_LISTED else ""
    return (", ".join(names[:_MAX_LISTED]) or "none") + more


def output_topic(camera: str, output: str) -> str:
    """Return the topic of an output, the same as in the live node.

    >>> output_topic("", "mask"), output_topic("front", "mask")
    ('/eomt_ext/output/mask', '/eomt_ext/front/output/mask')
    """
    return registry.output_topic(output, camera, NODE)


def frame_name(bag: str, camera: str, stamp_ns: int) -> str:
    """Name a frame in the report; names sort in the order of the stamps.

    >>> frame_name("drive", "", 1_700_000_000_000_000_005)
    'drive/1700000000.000000005'
    """
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return "/".join(part for part in (bag, camera, f"{seconds:010d}.{nanoseconds:09d}") if part)
