"""What a labelled frame is to every metric: scores and labels of one shape, labels 0, 1 or 255."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from eomt_ext_core.errors import DatasetError

NORMAL = 0
ANOMALOUS = 1
VOID = 255

FloatArray = npt.NDArray[np.floating[Any]]


def check_frame(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[Any]]:
    """Return scores and labels as arrays once they are known to fit each other.

    ``scores`` are floats of any range, larger meaning more anomalous (float16 is widened to float32, which loses
    nothing); ``labels`` are integers or booleans of the same shape, 0 normal, 1 anomalous, 255 void. Raises
    ``DatasetError`` naming the shapes, the types, the foreign label values, or the number of valid pixels whose score
    is not finite. Scores of void pixels are not looked at.
    """
    score_array = np.asarray(scores)
    label_array = np.asarray(labels)
    if score_array.shape != label_array.shape:
        raise DatasetError(
            f"scores and labels must have the same shape, got {score_array.shape} and {label_array.shape}: "
            "resize the scores to the size of the labels"
        )
    if score_array.dtype not in (np.float16, np.float32, np.float64):
        raise DatasetError(f"scores must be float16, float32 or float64, got {score_array.dtype}: cast them")
    if label_array.dtype.kind not in "biu":
        raise DatasetError(f"labels must be integers (0, 1 or 255), got {label_array.dtype}: cast them")
    num_known = sum(int(np.count_nonzero(label_array == value)) for value in (NORMAL, ANOMALOUS, VOID))
    if num_known != label_array.size:
        foreign = sorted(set(np.unique(label_array).tolist()) - {NORMAL, ANOMALOUS, VOID})
        named = ", ".join(str(value) for value in foreign[:8]) + (", …" if len(foreign) > 8 else "")
        raise DatasetError(
            f"labels must be 0 (normal), 1 (anomalous) or 255 (void), got {named} in "
            f"{label_array.size - num_known} pixels: map the labels of this data set first"
        )
    finite = np.isfinite(score_array)
    if not finite.all():
        broken = ~finite & (label_array != VOID)
        num_broken = int(np.count_nonzero(broken))
        num_nan = int(np.count_nonzero(np.isnan(score_array) & broken))
        if num_broken:
            raise DatasetError(
                f"scores of valid pixels must be finite, got {num_nan} NaN and {num_broken - num_nan} infinite "
                f"among {int(np.count_nonzero(label_array != VOID))}: mend the model, or mark those pixels void"
            )
    if score_array.dtype == np.float16:
        score_array = score_array.astype(np.float32)
    return score_array, label_array
