"""Serialised images (OMG CDR) as in bags, read and written without ROS."""

from __future__ import annotations

import functools
import struct
import sys
from types import SimpleNamespace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images import decode
from eomt_ext_ros.messages.images import COMPRESSED_KINDS, decompress, to_rgb

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

_STAMP = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}  # by the second byte of the encapsulation
_FORMATS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "rgb8": (np.uint8, (3,)),
    "mono8": (np.uint8, ()),
    "8UC1": (np.uint8, ()),
    "32FC1": (np.float32, ()),
}


def stamp_ns(data: bytes) -> int:
    """Return the stamp, in nanoseconds, of a serialised message that begins with a header.

    Raises ``ImageError`` (reason ``"message"``) if the data are too short.
    """
    if len(data) < 12 or data[1] not in _STAMP:
        raise ImageError(f"a serialised message must begin with a header, got {data[:12].hex(' ')!r}", "message")
    seconds, nanoseconds = _STAMP[data[1]].unpack_from(data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def deserialize(data: bytes, msgtype: str) -> Any:
    """Deserialise a message. Raises ``ImageError`` (reason ``"message"``) if the data are not such a message."""
    try:
        return typestore().deserialize_cdr(data, msgtype)
    except Exception as error:  # rosbags raises any exception for damaged data
        problem = f"{type(error).__name__}: {error}"
        raise ImageError(f"{len(data)} bytes are not a {msgtype} ({problem})", "message") from error


def image_rgb(msg: Any, msgtype: str) -> NDArray[np.uint8]:
    """Decode an Image or CompressedImage to (H, W, 3) uint8 RGB; see :mod:`eomt_ext_ros.messages.images`."""
    return decompress(msg) if msgtype == COMPRESSED_IMAGE else to_rgb(msg)


def plane(msg: Any, msgtype: str = IMAGE) -> NDArray[Any]:
    """Return the unconverted pixels of a mono8, 8UC1, 32FC1 or rgb8 Image, or of a grey PNG in a CompressedImage.

    Returns (H, W) uint8 or float32, or (H, W, 3) uint8. Raises ``ImageError`` for anything else.
    """
    if msgtype == COMPRESSED_IMAGE:
        pixels = decode(bytes(msg.data), cv2.IMREAD_UNCHANGED, kinds=COMPRESSED_KINDS)
        if pixels.ndim != 2:
            raise ImageError(f"compressed labels must be a grey PNG, got {msg.format!r}", "decode")
        return pixels
    if msg.encoding not in _FORMATS:
        raise ImageError(f"the encoding must be one of {', '.join(_FORMATS)}, got {msg.encoding!r}", "encoding")
    dtype, channels = _FORMATS[msg.encoding]
    size = np.dtype(dtype).itemsize
    shape = (msg.height, msg.width, *channels)
    row = msg.width * size * int(np.prod(channels, dtype=int))
    if msg.height < 1 or msg.width < 1 or msg.step < row or len(msg.data) != msg.step * msg.height:
        raise ImageError(f"{msg.encoding} {shape} with step {msg.step} cannot be {len(msg.data)} bytes", "size")
    order: Literal[">", "<"] = ">" if msg.is_bigendian else "<"
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, :row]
    values: NDArray[Any] = np.ascontiguousarray(rows).view(np.dtype(dtype).newbyteorder(order)).reshape(shape)
    return values


def serialize_image(array: NDArray[Any], encoding: str, header: Any) -> bytes:
    """Serialise a contiguous array as ``sensor_msgs/Image``.

    ``encoding`` is ``"rgb8"`` for (H, W, 3) uint8, ``"mono8"`` for (H, W) uint8, ``"32FC1"`` for (H, W) float32.
    ``header``: a header of rclpy or rosbags, with ``stamp.sec``, ``stamp.nanosec`` and ``frame_id``.
    """
    dtype, channels = _FORMATS[encoding]
    if array.dtype != dtype or array.ndim < 2 or array.shape[2:] != channels or array.size == 0:
        raise ImageError(f"{encoding} cannot hold an array of {array.shape} {array.dtype}", "dimensions")
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=header.stamp.sec, nanosec=header.stamp.nanosec)
    msg = types[IMAGE](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=header.frame_id),
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=array.nbytes // array.shape[0],
        data=np.ascontiguousarray(array).reshape(-1).view(np.uint8),
    )
    return bytes(typestore().serialize_cdr(msg, IMAGE))


def header_of(stamp: int, frame_id: str) -> Any:
    """Make a header for :func:`serialize_image` from a stamp in nanoseconds."""
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


@functools.cache
def typestore() -> Any:
    """Return the message types, as defined in ``rosbags``."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)  # the image types are the same in all distributions
