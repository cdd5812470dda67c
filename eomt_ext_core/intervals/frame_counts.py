"""What a metric of a set needs of each frame, small enough to be stored: pixels by score, and components."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError

NUM_EDGES = 400  # the steps in recall and in false-positive rate of a whole set are then 0.5 % or finer
MOST_EDGES = 1000
NUM_TAU = 11
_MOST_BYTES = 1 << 20

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FrameCounts:
    """One score on one labelled frame.

    Attributes:
        normal, anomalous: (K,) pixels between one edge and the one above it, by descending score.
        num_ground_truth, num_predicted: components; ``siou_sum``, ``ppv_sum``: sums over them.
        true_positives, false_positives: (11,) components at each sIoU threshold.
    """

    normal: FloatArray
    anomalous: FloatArray
    num_ground_truth: float
    num_predicted: float
    siou_sum: float
    ppv_sum: float
    true_positives: FloatArray
    false_positives: FloatArray

    def to_json(self) -> dict[str, str]:
        """Give both parts packed: zlib, base64."""
        pixels = np.concatenate((self.normal, self.anomalous)).astype("<u4")
        sums = (self.num_ground_truth, self.num_predicted, self.siou_sum, self.ppv_sum)
        components = np.concatenate((sums, self.true_positives, self.false_positives)).astype("<f8")
        return {"pixels": _packed(pixels), "components": _packed(components)}

    @classmethod
    def of_json(cls, stored: Any, num_edges: int) -> FrameCounts:
        """Read it back.

        Raises:
            DatasetError: if it is damaged.
        """
        if not isinstance(stored, dict):
            raise DatasetError("counts of a frame must be a mapping")
        pixels = _unpacked(stored.get("pixels"), "<u4", 2 * num_edges)
        numbers = _unpacked(stored.get("components"), "<f8", 4 + 2 * NUM_TAU)
        if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise DatasetError("counts of a frame must not be negative, and must be finite")
        truths, predicted, siou, ppv = (float(value) for value in numbers[:4])
        hits, false = numbers[4 : 4 + NUM_TAU], numbers[4 + NUM_TAU :]
        return cls(pixels[:num_edges], pixels[num_edges:], truths, predicted, siou, ppv, hits, false)


def count_pixels(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], edges: FloatArray, value: int
) -> NDArray[np.int64]:
    """Count the pixels of a frame with a label between the edges.

    Args:
        scores: (H, W), larger is more anomalous.
        labels: (H, W).
        edges: (K,) descending, from infinity; a pixel belongs to the first edge that its score is above.
        value: the label.

    Returns:
        (K,) counts; the first is 0. Pixels that are above no edge are not counted.

    >>> count_pixels(np.float32([[0.9, 0.5, 0.1]]), np.zeros((1, 3), np.uint8), np.array([np.inf, 0.6, 0.2]), 0)
    array([0, 1, 1])
    """
    chosen = scores[labels == value].astype(np.float64)
    rows = edges.size - np.searchsorted(edges[::-1], chosen, side="left")
    return np.bincount(rows, minlength=edges.size + 1)[: edges.size].astype(np.int64)


def pack_edges(edges: FloatArray) -> str:
    """Pack edges for JSON."""
    return _packed(edges.astype("<f8"))


def unpack_edges(stored: Any) -> FloatArray:
    """Read edges back.

    Raises:
        DatasetError: if they are damaged.
    """
    edges = _unpacked(stored, "<f8", None)
    if not 1 <= edges.size <= MOST_EDGES or np.isnan(edges).any() or not (np.diff(edges) < 0).all():
        raise DatasetError("edges of scores must be descending numbers")
    return edges


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


def _unpacked(stored: Any, dtype: str, size: int | None) -> FloatArray:
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(stored, validate=True), _MOST_BYTES)
        values = np.frombuffer(raw, dtype).astype(np.float64)
    except (TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise DatasetError(f"counts of a frame cannot be read: {error}") from error
    if size is not None and values.size != size:
        raise DatasetError(f"counts of a frame must be {size} numbers, got {values.size}")
    return values
