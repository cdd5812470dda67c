"""The dense semantic map in bands of rows, as the masks of all queries at every pixel are the largest tensor."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from eomt_ext_core.scoring.bilinear import BilinearRows


def semantic_bands(
    mask_logits: Tensor, class_logits: Tensor, size_hw: tuple[int, int], rows: int
) -> Iterator[tuple[slice, Tensor]]:
    """Compute :func:`~eomt_ext_core.scoring.uncertainty.semantic_map` in bands, channels last.

    Args:
        mask_logits: (B, Q, h, w) float32.
        class_logits: (B, Q, C + 1) float32.
        size_hw: (H, W) of the whole map.
        rows: in each band; the last may have fewer.

    Yields:
        the rows of a band, and the map there, (B, rows, W, C).
    """
    height, width = size_hw
    classes = class_logits.softmax(dim=-1)[..., :-1]
    mask_rows = BilinearRows(mask_logits.permute(0, 2, 3, 1), size_hw)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        masks = mask_rows(start, stop).sigmoid()
        yield slice(start, stop), (masks.flatten(1, 2) @ classes).view(-1, stop - start, width, classes.shape[2])
