"""Which box of an image is which of those that were expected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_LEAST_SIMILARITY = -0.25  # equal boxes 1.2 sides apart; farther, another one is as likely


def similarity(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compare boxes by overlap and distance.

    Intersection over union, less the squared distance of the centres over the squared diagonal of the box around both
    (Zheng et al., "Distance-IoU loss", AAAI 2020): small boxes that do not overlap any more are still compared.

    Args:
        first, second: (N, 4) and (M, 4) float64, x and y of the centre, width and height above 0.

    Returns:
        (N, M) float64 in (-1, 1].
    """
    (low, high), (other_low, other_high) = (
        (boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2)
        for boxes in (first[:, None], second[None])
    )
    shared = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0).prod(-1)
    covered = first[:, None, 2:].prod(-1) + second[None, :, 2:].prod(-1) - shared
    around = ((np.maximum(high, other_high) - np.minimum(low, other_low)) ** 2).sum(-1)
    apart = ((first[:, None, :2] - second[None, :, :2]) ** 2).sum(-1)
    return np.asarray(shared / covered - apart / around)


def pairs(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Pair boxes off, the most similar first; gives the indices of each pair. Arguments as :func:`similarity`."""
    similar = similarity(expected, seen)
    rows, columns = np.nonzero(similar > _LEAST_SIMILARITY)
    best_first = np.argsort(-similar[rows, columns], kind="stable")
    free, unseen = np.ones(len(seen), np.bool_), np.ones(len(expected), np.bool_)
    for row, column in zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True):
        if unseen[row] and free[column]:
            unseen[row] = free[column] = False
            yield row, column
