"""8-connected components of a mask and their figures, from the runs of pixels in its rows.

Neighbours in a row belong to one component, so every figure of a component is a sum or an extreme over its runs, of
which there are far fewer than pixels. That is several times faster than OpenCV's own statistics of components.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Components:
    """The N components of an (H, W) mask and their R runs.

    Attributes:
        crop: rows and columns of the smallest box around all of them.
        inside: the mask in that box.
        run_label: (R,) which component a run belongs to, in the order of rows.
        run_x, run_y, run_length: (R,) first pixel of a run in the image, and how many follow from there.
        area_px: (N,) pixels.
        box_xywh: (N, 4) left, top, width and height.
        centroid_xy: (N, 2) float64, the pixel in column i covering [i, i + 1).
    """

    crop: tuple[slice, slice]
    inside: NDArray[np.bool_]
    run_label: NDArray[np.int64]
    run_x: NDArray[np.int64]
    run_y: NDArray[np.int64]
    run_length: NDArray[np.int64]
    area_px: NDArray[np.int64]
    box_xywh: NDArray[np.int64]
    centroid_xy: NDArray[np.float64]

    def largest(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Largest value of an (H, W) image, nowhere below 0, in each component: (N,)."""
        result = np.zeros(len(self.area_px), np.float32)
        if result.size:
            first = np.cumsum(self.run_length) - self.run_length
            np.maximum.at(result, self.run_label, np.maximum.reduceat(image[self.crop][self.inside], first))
        return result

    def meet(self, blocks: NDArray[np.bool_], block_px: int) -> NDArray[np.bool_]:
        """Whether each component has a pixel in one of the marked blocks, which are squares of pixels: (N,) bool."""
        row = self.run_y // block_px
        marked = np.pad(np.cumsum(blocks, axis=1, dtype=np.int32), ((0, 0), (1, 0)))  # in a row, left of a block
        end = (self.run_x + self.run_length - 1) // block_px + 1
        hits = marked[row, end] > marked[row, self.run_x // block_px]
        met: NDArray[np.bool_] = np.bincount(self.run_label, hits, len(self.area_px)) > 0
        return met

    def chosen_inside(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """``inside`` with the chosen components, (N,) bool, only."""
        result: NDArray[np.bool_] = self.inside.copy()
        result[self.inside] = np.repeat(chosen[self.run_label], self.run_length)
        return result


def find_components(mask: NDArray[np.bool_]) -> Components:
    """Take an (H, W) mask apart."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    crop = slice(top, top + height), slice(left, left + width)
    inside = np.ascontiguousarray(mask[crop])
    count, labels = cv2.connectedComponents(inside.view(np.uint8), connectivity=8) if inside.size else (1, inside)
    count -= 1  # the background

    # Rows one after the other, a False before the first and after each: runs begin and end where the value changes.
    padded = np.zeros(1 + height * (width + 1), np.bool_)
    padded[1:].reshape(height, width + 1)[:, :width] = inside
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    y, x = np.divmod(changes[0::2], width + 1)
    length = changes[1::2] - changes[0::2]
    label = labels[y, x].astype(np.int64) - 1
    x, y = x + left, y + top

    area = np.bincount(label, length, count)
    moments = np.bincount(label, length * (x + length / 2), count), np.bincount(label, length * (y + 0.5), count)
    low, high = np.full((count, 2), max(mask.shape)), np.zeros((count, 2), np.int64)
    np.minimum.at(low[:, 0], label, x)
    np.minimum.at(low[:, 1], label, y)
    np.maximum.at(high[:, 0], label, x + length)
    np.maximum.at(high[:, 1], label, y + 1)
    return Components(
        crop=crop,
        inside=inside,
        run_label=label,
        run_x=x,
        run_y=y,
        run_length=length,
        area_px=area.astype(np.int64),
        box_xywh=np.concatenate([low, high - low], axis=1),
        centroid_xy=np.stack(moments, axis=1) / area[:, None],
    )
