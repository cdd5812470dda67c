"""Names: which topics the results of a camera go to, and what a camera and a frame are called."""

from __future__ import annotations

from collections.abc import Sequence

from eomt_ext_ros.outputs import registry

NODE = "/eomt_ext"
OUTPUTS = {output.name: output for output in registry.OUTPUTS if output.encoding and "semantic" not in output.needs}
"""What can be made of a bag: the images that need no map of the semantic classes."""
_MOST_LISTED = 20


def camera_names(image_topics: Sequence[str]) -> dict[str, str]:
    """A short name for each of several cameras: the namespace of its topic, or all of it where that is not enough.

    For a single camera it is empty.

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
    """Names in a message: not more than can be read.

    >>> listed(["/a", "/b"]), listed([]), listed(["/a"] * 30)[-16:]
    ('/a, /b', 'none', '/a and 10 others')
    """
    more = f" and {len(names) - _MOST_LISTED} others" if len(names) > _MOST_LISTED else ""
    return (", ".join(names[:_MOST_LISTED]) or "none") + more


def output_topic(camera: str, output: str) -> str:
    """The topic of an output, named as the live node's are.

    >>> output_topic("", "mask"), output_topic("front", "mask")
    ('/eomt_ext/output/mask', '/eomt_ext/front/output/mask')
    """
    return registry.output_topic(output, camera, NODE)


def frame_name(bag: str, camera: str, stamp_ns: int) -> str:
    """What a frame is called in the report; names sort as the frames follow each other.

    >>> frame_name("drive", "", 1_700_000_000_000_000_005)
    'drive/1700000000.000000005'
    """
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return "/".join(part for part in (bag, camera, f"{seconds:010d}.{nanoseconds:09d}") if part)
