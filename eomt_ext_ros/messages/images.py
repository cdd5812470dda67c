"""Conversion of ``sensor_msgs`` images to and from numpy arrays.

Only the fields of messages are used, so that messages of ``rosbags`` (without ROS) and of ``rclpy`` both work.

Every rejection is an ``ImageError`` whose ``reason`` is one of

- ``"empty"``: no data at all,
- ``"dimensions"``: height or width is zero, too large, or impossible for the encoding,
- ``"step"``: a row is shorter than its pixels,
- ``"size"``: the length of the data differs from height times step,
- ``"encoding"``: the encoding or the compression is not supported,
- ``"decode"``: the decoder refused the data,
- ``"work"``: decoding the data would take too long.

Errors appear in the log and in the diagnostics. They quote only numbers, and the names of encoding, format and frame,
shortened and with control characters escaped; never data.

YUV encodings are decoded like in OpenCV and cv_bridge: BT.601, limited range (luma 16 to 235). Full-range images get
16 % more contrast, with their darkest and brightest values clipped.
"""

from __future__ import annotations

import functools
import re
import sys
from reprlib import repr as _short  # a field of a message may be megabytes long
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images import DEFAULT_LIMITS, decode, decode_rgb
from eomt_ext_core.images.decoder import opencv_lacks_memory

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

MAX_PIXELS = DEFAULT_LIMITS.max_pixels
"""Images of more pixels (8192 x 8192) are rejected: no camera sends them, broken and hostile messages do."""

JPEG_QUALITY = 80
"""Of what is published as a JPEG, for people."""

COMPRESSED_KINDS = ("JPEG", "PNG")
"""The formats that compressed messages come in."""


class _Packed(NamedTuple):
    """An encoding whose pixels follow each other, 8 bit per channel."""

    channels: int
    to_rgb: int | None  # OpenCV's conversion code; None: it is RGB already
    width_multiple: int = 1
    min_side: int = 1


# OpenCV names a Bayer pattern by its second row from the second column, ROS by its upper left corner: RGGB is "BG".
# Below three pixels a side OpenCV has no neighbours to interpolate from and returns black.
_bayer = functools.partial(_Packed, 1, min_side=3)
_uyvy = _Packed(2, cv2.COLOR_YUV2RGB_UYVY, width_multiple=2)
_yuyv = _Packed(2, cv2.COLOR_YUV2RGB_YUY2, width_multiple=2)

_PACKED = {
    "rgb8": _Packed(3, None),
    "bgr8": _Packed(3, cv2.COLOR_BGR2RGB),
    # The generic types name no colours. OpenCV's order is assumed, as rviz does.
    "8UC3": _Packed(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Packed(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Packed(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Packed(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Packed(1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2RGB),
    "uyvy": _uyvy,
    "yuv422": _uyvy,  # the deprecated name
    "yuyv": _yuyv,
    "yuv422_yuy2": _yuyv,  # the deprecated name
}
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
_HAS_COLOURS = re.compile(r"compressed (bgr|rgb)")  # in the format of a CompressedImage
_AS_STORED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_COLOURS_LOST = re.compile(r"\s*(bayer_|yuv|uyvy|nv\d)[^;]*;.*compressed mono")

DECODED_ENCODINGS = (*_PACKED, *_SEMI_PLANAR)
"""The encodings that :func:`to_rgb` decodes without cv_bridge."""

_OUTPUT_FORMATS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "rgb8": (np.uint8, (3,)),
    "mono8": (np.uint8, ()),
    "32FC1": (np.float32, ()),
}


def to_rgb(msg: Image) -> NDArray[np.uint8]:
    """Convert a ``sensor_msgs/Image`` to an (H, W, 3) uint8 RGB array.

    rgb8 is not copied: the array shares its memory with ``msg.data`` and is strided if rows are padded. Every other
    encoding yields a new contiguous array. Encodings outside ``DECODED_ENCODINGS`` go through cv_bridge, if it is
    installed and works, without the padding of rows and in this machine's byte order. ``is_bigendian`` does not apply
    to 8 bit channels.

    nv12 and nv21 are read as drivers send them: ``height`` is that of the image, the luma rows are followed by half as
    many chroma rows. ``step`` is the length of a luma row, or, without padding, the whole size divided by ``height``.

    Raises ``ImageError``; the module's docstring lists the reasons.
    Sources: sensor_msgs ``Image.msg`` and ``image_encodings.hpp``; ros2/common_interfaces #264 for nv12.
    """
    data = _data_of(msg)
    _check_dimensions(msg.height, msg.width)
    if msg.encoding in _SEMI_PLANAR:
        return _convert(_semi_planar_view(msg, data), _SEMI_PLANAR[msg.encoding], msg.encoding)
    if msg.encoding not in _PACKED:
        return _through_cv_bridge(msg, data)
    packed = _PACKED[msg.encoding]
    pixels = _packed_view(msg, data, packed)
    return pixels if packed.to_rgb is None else _convert(pixels, packed.to_rgb, msg.encoding)


def decompress(msg: CompressedImage) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG ``sensor_msgs/CompressedImage`` to a contiguous (H, W, 3) uint8 RGB array.

    Grey images have equal channels, 16 bit channels keep their upper 8 bits, alpha is dropped. An EXIF orientation is
    not applied, as the camera's calibration refers to the stored pixels. The compression is detected from the data.
    ``format`` matters in two cases:

    - If it begins with a Bayer encoding (``"bayer_rggb8; jpeg compressed "``, ``"bayer_rggb16; png compressed "``),
      a file of one channel is a mosaic, and is debayered. A file of three channels was debayered before the
      compression if the format says so (``compressed bgr8``), and contradicts the format otherwise. See also
      :func:`lost_colours`.
    - If it contains ``"compressed rgb8"``, red and blue were swapped before the compression (image_transport's
      convention), and are swapped back.

    Raises ``ImageError``; the module's docstring lists the reasons. ``MemoryError`` if OpenCV runs out of memory.
    Sources: sensor_msgs ``CompressedImage.msg``; ros-perception/image_transport_plugins, compressed_publisher.cpp and
    compressed_subscriber.cpp.
    """
    data = _data_of(msg).tobytes()
    try:
        if msg.format.lstrip().startswith("bayer"):
            pixels = decode(data, _AS_STORED, kinds=COMPRESSED_KINDS)
            if pixels.ndim == 2:
                return _debayer(pixels, msg.format)
            if not _HAS_COLOURS.search(msg.format):
                raise ImageError(
                    f"a Bayer mosaic has one channel, got {pixels.shape[2]}: let the publisher compress the mosaic, "
                    "or name the encoding that it compresses",
                    "encoding",
                )
        rgb = decode_rgb(data, kinds=COMPRESSED_KINDS)
    except ImageError as error:
        raise ImageError(f"{error} (format {_short(msg.format)})", error.reason) from None
    return _convert(rgb, cv2.COLOR_BGR2RGB, msg.format) if "compressed rgb" in msg.format else rgb


def lost_colours(msg: Image | CompressedImage) -> str:
    """Explain why the image of a colour camera has no colours; empty if it has.

    From Humble to Jazzy, image_transport converts a Bayer mosaic to grey before JPEG compression.
    """
    image_format: str = getattr(msg, "format", "")
    if not _COLOURS_LOST.match(image_format):
        return ""
    return (
        f"its publisher converted the colours to grey before the compression (format {_short(image_format)}), but the "
        "model needs colours: publish png, set jpeg_compress_bayer if the publisher has it, or debayer first"
    )


def to_image_msg(array: NDArray[Any], encoding: str, header: Header) -> Image:
    """Make a ``sensor_msgs/Image`` with a copy of the pixels.

    ``encoding`` is ``"rgb8"`` for (H, W, 3) uint8, ``"mono8"`` for (H, W) uint8 or ``"32FC1"`` for (H, W) float32. Rows
    are not padded; floats keep the byte order of this machine. ``header`` is that of the image from which the array was
    computed.

    Raises ``ImageError`` if the encoding is another one or the array does not fit it.
    """
    from sensor_msgs.msg import Image

    if encoding not in _OUTPUT_FORMATS:
        raise ImageError(f"images are published as {', '.join(_OUTPUT_FORMATS)}, got {encoding!r}", "encoding")
    dtype, channels = _OUTPUT_FORMATS[encoding]
    if array.dtype != dtype or array.ndim < 2 or array.shape[2:] != channels or array.size == 0:
        shape = ", ".join(["H", "W", *map(str, channels)])
        raise ImageError(
            f"{encoding} takes a ({shape}) {dtype.__name__} array that is not empty, got {array.shape} {array.dtype}",
            "dimensions",
        )
    msg = Image()
    msg.header = header
    msg.height, msg.width = array.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = array.nbytes // array.shape[0]
    # Filling the message's own buffer copies once. Assigning copies again, or, on some distributions, byte by byte.
    msg.data.frombytes(np.ascontiguousarray(array).data.cast("B"))
    return msg


def to_jpeg_msg(image_rgb: NDArray[np.uint8], header: Header) -> CompressedImage:
    """Make a ``sensor_msgs/CompressedImage`` of ``JPEG_QUALITY``, as image_transport's compressed one is.

    Args:
        image_rgb: (H, W, 3) uint8.
        header: set as it is.
    """
    from sensor_msgs.msg import CompressedImage

    image_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    packed = cv2.imencode(".jpg", image_bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    msg = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    msg.data.frombytes(packed.tobytes())
    return msg


def _data_of(msg: Image | CompressedImage) -> NDArray[np.uint8]:
    """Return the data of a message as a 1-D array that shares their memory."""
    if len(msg.data) == 0:
        raise ImageError("an image message must have data, got none: check its publisher", "empty")
    return np.frombuffer(msg.data, dtype=np.uint8)


def _check_dimensions(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ImageError(
            f"images must have between 1 and {MAX_PIXELS} pixels, got height {height} and width {width}", "dimensions"
        )


def _check_layout(msg: Image, data: NDArray[np.uint8], rows: int, step: int, row_bytes: int) -> None:
    if step < row_bytes:
        raise ImageError(
            f"step must be at least {row_bytes} for {_short(msg.encoding)} of width {msg.width}, got {msg.step}", "step"
        )
    if data.size != rows * step:
        raise ImageError(
            f"{_short(msg.encoding)} of height {msg.height} with step {msg.step} must have {rows * step} bytes, "
            f"got {data.size}",
            "size",
        )


def _packed_view(msg: Image, data: NDArray[np.uint8], packed: _Packed) -> NDArray[np.uint8]:
    """Return the pixels, (H, W) or (H, W, channels), strided over the padding of the rows."""
    if msg.width % packed.width_multiple or min(msg.height, msg.width) < packed.min_side:
        raise ImageError(
            f"{msg.encoding} needs a width that is a multiple of {packed.width_multiple} and sides of at least "
            f"{packed.min_side}, got height {msg.height} and width {msg.width}",
            "dimensions",
        )
    _check_layout(msg, data, msg.height, msg.step, msg.width * packed.channels)
    shape, strides = (msg.height, msg.width, packed.channels), (msg.step, packed.channels, 1)
    pixels: NDArray[np.uint8] = np.ndarray(shape, np.uint8, data, strides=strides)
    return pixels[..., 0] if packed.channels == 1 else pixels


def _debayer(mosaic: NDArray[Any], image_format: str) -> NDArray[np.uint8]:
    """Debayer (H, W) uint8, or the upper 8 bits of uint16, to (H, W, 3) RGB."""
    encoding = image_format.partition(";")[0].strip()
    packed = _PACKED.get(re.sub("16$", "8", encoding))
    if packed is None or packed.to_rgb is None:
        known = ", ".join(name for name in _PACKED if name.startswith("bayer"))
        raise ImageError(f"Bayer encodings must be {known}, or of 16 bits, got {_short(encoding)}", "encoding")
    if min(mosaic.shape) < packed.min_side:
        raise ImageError(f"{encoding} needs sides of at least {packed.min_side}, got {mosaic.shape}", "dimensions")
    grey = mosaic if mosaic.dtype == np.uint8 else (mosaic >> 8).astype(np.uint8)
    return _convert(grey, packed.to_rgb, image_format)


def _semi_planar_view(msg: Image, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the planes for OpenCV, (3/2 H, W): the luma rows, then the rows of interleaved chroma."""
    if msg.height % 2 or msg.width % 2:
        raise ImageError(
            f"{msg.encoding} needs even sides, got height {msg.height} and width {msg.width}", "dimensions"
        )
    rows = msg.height * 3 // 2
    # In Image.msg, data has step * rows bytes: some drivers comply by a step of one and a half rows.
    divided = msg.step * 2 == msg.width * 3 and data.size == msg.step * msg.height
    step = msg.width if divided else msg.step
    _check_layout(msg, data, rows, step, msg.width)
    planes: NDArray[np.uint8] = np.ndarray((rows, msg.width), np.uint8, data, strides=(step, 1))
    return planes


def _convert(pixels: NDArray[np.uint8], code: int, encoding: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)
    except cv2.error as error:
        raise _refusal(error, f"OpenCV cannot convert this {_short(encoding)} image: {error}") from None


def _refusal(error: cv2.error, text: str) -> Exception:
    """Convert an error of OpenCV: running out of memory is no fault of the image."""
    return MemoryError(text) if opencv_lacks_memory(error) else ImageError(text, "decode")


@functools.cache
def _load_cv_bridge() -> tuple[Any, str]:
    """Return a ``CvBridge``, or None with the reason. Tried only once, as a failing import is slow."""
    try:
        from cv_bridge import CvBridge

        return CvBridge(), ""
    except Exception as error:  # its binary raises AttributeError and others with a wrong version of NumPy
        return None, f"{type(error).__name__}: {error}"


def _through_cv_bridge(msg: Image, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bridge, complaint = _load_cv_bridge()
    if bridge is None:
        raise ImageError(
            f"encoding {_short(msg.encoding)} needs cv_bridge (only {', '.join(DECODED_ENCODINGS)} do not), which "
            f"cannot be imported ({complaint}): install a cv_bridge built for this NumPy, or let the camera driver or "
            "an image_proc node publish rgb8",
            "encoding",
        )
    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(msg.encoding)
        plain = _plain(msg, data, np.dtype(dtype).itemsize, channels)
        pixels = np.asarray(bridge.imgmsg_to_cv2(plain, desired_encoding="rgb8"))
    except ImageError:
        raise
    except Exception as error:  # a CvBridgeError, or what NumPy and OpenCV raise inside
        raise ImageError(
            f"cv_bridge cannot convert {_short(msg.encoding)} to rgb8 ({type(error).__name__}: {_short(str(error))}): "
            "let the camera driver or an image_proc node publish rgb8",
            "encoding",
        ) from error
    if pixels.shape != (msg.height, msg.width, 3) or pixels.dtype != np.uint8:
        raise ImageError(
            f"cv_bridge must return ({msg.height}, {msg.width}, 3) uint8 for {_short(msg.encoding)}, got "
            f"{pixels.shape} {pixels.dtype}",
            "decode",
        )
    return pixels


def _plain(msg: Image, data: NDArray[np.uint8], depth: int, channels: int) -> SimpleNamespace:
    """Copy a message without padding and in the byte order of this machine.

    cv_bridge assumes that rows are whole numbers of pixels, and cannot swap bytes with NumPy 2.
    """
    row_bytes = msg.width * channels * depth
    _check_layout(msg, data, msg.height, msg.step, row_bytes)
    rows = np.ascontiguousarray(data.reshape(msg.height, msg.step)[:, :row_bytes])
    is_native = bool(msg.is_bigendian) == (sys.byteorder == "big")
    return SimpleNamespace(
        height=msg.height,
        width=msg.width,
        encoding=msg.encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=row_bytes,
        data=rows if is_native else rows.reshape(-1, depth)[:, ::-1].tobytes(),
    )
