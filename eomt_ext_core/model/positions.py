"""The position embedding: its window, and resampling to another window.

It has a vector for each patch, row by row. The number of vectors does not determine rows and columns: 1,600 can be
40 × 40 patches, or 20 × 80.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.errors import CheckpointError

POSITIONS = "encoder.backbone.pos_embed"
_MOST_ASPECT = 8  # of the windows that are tried
_CLEARLY = 2.0


def resample_positions(positions: Tensor, old_grid_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """Resample a position embedding to another grid of patches, in float32: bicubic, antialiased.

    So does timm's ``resample_abs_pos_embed``, but for versions that take equally many patches for the same grid.

    Args:
        positions: (1, N, C), of any floating-point type, row by row of ``old_grid_hw``.
        old_grid_hw: rows and columns of patches, N together.
        grid_hw: those wanted.

    Returns:
        (1, rows · columns, C) float32; the same numbers if the grids are the same.
    """
    positions = positions.float()
    if old_grid_hw == grid_hw:
        return positions
    image = positions.reshape(1, *old_grid_hw, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, grid_hw, mode="bicubic", antialias=True)
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def check_square(positions: Tensor, patch_size: int) -> None:
    """Raise ``CheckpointError`` if the vectors of a position embedding do not look like those of a square grid.

    In a trained embedding, patches that are neighbours have similar vectors. So the distance between vectors one row
    apart is clearly smaller for the true number of columns than for another.

    Args:
        positions: (1, N, C) with N a square number.
        patch_size: side of a patch in pixels, for the message.

    Raises:
        CheckpointError: naming the window that fits its vectors.
    """
    vectors = positions[0].float()
    count = len(vectors)
    side = round(count**0.5)
    roughness = {
        columns: float((vectors[columns:] - vectors[:-columns]).square().mean())
        for columns in range(1, count)
        if count % columns == 0 and count <= _MOST_ASPECT * columns**2 <= _MOST_ASPECT**2 * count
    }
    smoothest = min(roughness, key=lambda columns: roughness[columns], default=side)
    if smoothest != side and roughness[side] > _CLEARLY * roughness[smoothest]:
        height, width = count // smoothest * patch_size, smoothest * patch_size
        raise CheckpointError(
            f"nothing says what window the position embedding was trained at, and its {count} vectors look like one of "
            f"{width}×{height} pixels, not like a square: give trained_crop_hw in the configuration, height and width "
            "(`eomt-ext convert --trained-crop`)"
        )
