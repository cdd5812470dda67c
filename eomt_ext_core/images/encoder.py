"""Atomic writing of images, with any file name that the file system allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import OutputError
from eomt_ext_core.files import atomic_write, printable


def write_image(path: str | Path, image: NDArray[Any]) -> None:
    """Write an image in the format of the path's suffix.

    Args:
        path: of the file; missing folders are created.
        image: (H, W), or (H, W, 3) in OpenCV's order, BGR; uint8, or uint16 for a PNG.

    Raises:
        OutputError: if it cannot be encoded or written.
    """
    path = Path(path)
    try:
        encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image))[1]
    except cv2.error as error:
        raise OutputError(f"{printable(path)} cannot be written as an image: {error}") from error
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
