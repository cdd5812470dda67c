"""Overlapping windows: geometry from an image to its windows, and from their results back to the image.

Mode ``eomt`` is that of the EoMT reference: the image is resized so that the short side equals the window, and windows
are placed along the long side. Mode ``grid`` places 2-D windows over the image at a chosen scale, for small, distant
obstacles. Mode ``fovea`` adds a window to those of ``eomt`` that magnifies the distant road around the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.config import WindowConfig
from eomt_ext_core.errors import ImageError
from eomt_ext_core.kernels.choice import obstacle_to_triton

# Fraction of the fovea above the horizon, its weight in the result, and the width over which it fades at its border.
_ABOVE_HORIZON, _FOVEA_WEIGHT, _FADING = 0.35, 0.5, 0.1


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Fovea(NamedTuple):
    """The magnified window: its box in the image (``seen``) and in the resized image (``laid``)."""

    seen: Box
    laid: Box


@dataclass(frozen=True)
class WindowPlan:
    """The positions of the windows of an image.

    Attributes:
        image_hw: size of the image.
        resized_hw: size that the image is resized to.
        padded_hw: size after padding at the bottom and right; at least the crop.
        crop_hw: size of a window.
        starts_y: first rows of the windows, in the resized image.
        starts_x: first columns of the windows.
        blend: weights where windows overlap, ``uniform`` or ``hann``.
        fovea: the last window, which magnifies a part of the image; or None.
    """

    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    padded_hw: tuple[int, int]
    crop_hw: tuple[int, int]
    starts_y: tuple[int, ...]
    starts_x: tuple[int, ...]
    blend: str
    fovea: Fovea | None = None

    @property
    def origins_yx(self) -> list[tuple[int, int]]:
        """Upper left corners of the windows, row by row, without the fovea."""
        return [(y, x) for y in self.starts_y for x in self.starts_x]

    @property
    def num_windows(self) -> int:
        """Number of windows, including the fovea."""
        return len(self.starts_y) * len(self.starts_x) + (self.fovea is not None)


def plan(image_hw: tuple[int, int], crop_hw: tuple[int, int], config: WindowConfig) -> WindowPlan:
    """Place windows so that they cover every pixel of an image.

    Raises:
        ImageError: if the image has no pixels.

    >>> plan((1080, 1920), (640, 640), WindowConfig()).starts_x
    (0, 498)
    """
    resized_hw, padded_hw, (rows, columns) = _layout(image_hw, crop_hw, config)
    starts = _even_starts if config.mode == "grid" else _reference_starts
    starts_y, starts_x = starts(padded_hw[0], crop_hw[0], rows), starts(padded_hw[1], crop_hw[1], columns)
    fovea = _fovea(image_hw, resized_hw, crop_hw, config) if config.mode == "fovea" else None
    return WindowPlan(image_hw, resized_hw, padded_hw, crop_hw, starts_y, starts_x, config.blend, fovea)


def count(image_hw: tuple[int, int], crop_hw: tuple[int, int], config: WindowConfig) -> int:
    """Count the windows of :func:`plan` without planning them: a long, thin image would need millions.

    Raises:
        ImageError: if the image has no pixels.

    >>> count((1080, 1920), (640, 640), WindowConfig()), count((1, 2_073_600), (640, 640), WindowConfig())
    (2, 2073600)
    """
    _, _, (rows, columns) = _layout(image_hw, crop_hw, config)
    return rows * columns + (config.mode == "fovea")


def usual_count(config: WindowConfig) -> int | None:
    """Count the windows of a camera's image, which is at most twice as wide as high; None if the size decides it.

    >>> usual_count(WindowConfig()), usual_count(WindowConfig(mode="fovea")), usual_count(WindowConfig(mode="grid"))
    (2, 3, None)
    """
    return {"eomt": 2, "fovea": 3}.get(config.mode)


class _Layout(NamedTuple):
    resized_hw: tuple[int, int]
    padded_hw: tuple[int, int]
    counts_yx: tuple[int, int]


def _layout(image_hw: tuple[int, int], crop_hw: tuple[int, int], config: WindowConfig) -> _Layout:
    """Compute the sizes, and the numbers of windows downwards and to the right."""
    height, width = image_hw
    if height < 1 or width < 1:
        raise ImageError(f"an image must have at least one pixel, got {height}×{width}", reason="empty")
    if config.mode != "grid":
        factor = max(crop_hw[0] / height, crop_hw[1] / width)
        resized_hw = round(height * factor), round(width * factor)
        return _Layout(
            resized_hw, resized_hw, (math.ceil(resized_hw[0] / crop_hw[0]), math.ceil(resized_hw[1] / crop_hw[1]))
        )
    resized_hw = max(1, round(height * config.scale)), max(1, round(width * config.scale))
    padded_hw = max(resized_hw[0], crop_hw[0]), max(resized_hw[1], crop_hw[1])
    rows, columns = (_fewest(*sides, config.overlap) for sides in zip(padded_hw, crop_hw, strict=True))
    return _Layout(resized_hw, padded_hw, (rows, columns))


def _fovea(
    image_hw: tuple[int, int], resized_hw: tuple[int, int], crop_hw: tuple[int, int], config: WindowConfig
) -> Fovea:
    """Place a box with the aspect ratio of the window at the middle of the horizon, mostly below it."""
    fit = min(side / crop for side, crop in zip(image_hw, crop_hw, strict=True)) * config.fovea
    height, width = (min(side, max(1, round(crop * fit))) for side, crop in zip(image_hw, crop_hw, strict=True))
    top = round(config.horizon * image_hw[0] - _ABOVE_HORIZON * height)
    seen = Box(min(max(top, 0), image_hw[0] - height), (image_hw[1] - width) // 2, height, width)
    edges = []
    for start, length, side, resized in zip(seen[:2], seen[2:], image_hw, resized_hw, strict=True):
        first, last = (round(edge * resized / side) for edge in (start, start + length))
        first = min(first, resized - 1)
        edges.append((first, max(last, first + 1) - first))
    (y, rows), (x, columns) = edges
    return Fovea(seen, Box(y, x, rows, columns))


def _fewest(size: int, crop: int, overlap: float) -> int:
    """Count the fewest evenly spaced windows with neighbours that overlap by at least ``overlap`` of the window."""
    stride = max(1, math.floor(crop * (1 - overlap)))
    return 1 + math.ceil((size - crop) / stride)


def _reference_starts(size: int, crop: int, count: int) -> tuple[int, ...]:
    """Compute the starts of the reference along one side, but align the last window with the border.

    The reference truncates ``j·(crop − overlap/(n−1))``, in floating point; for some sizes its windows miss the last
    column.
    """
    if count == 1:
        return (0,)
    overlap = count * crop - size
    starts = [int(index * (crop - overlap / (count - 1))) for index in range(count - 1)]
    return (*starts, size - crop)


def _even_starts(size: int, crop: int, count: int) -> tuple[int, ...]:
    return tuple(index * (size - crop) // max(count - 1, 1) for index in range(count))


def resize(image: Tensor, plan: WindowPlan) -> Tensor:
    """Resize an image to the size of the plan with PIL's antialiased bilinear filter, and pad it with its border.

    Args:
        image: (3, H, W) uint8.
        plan: from :func:`plan`.

    Returns:
        (3, H', W') uint8 of the plan's padded size; the same as PIL's to within one level.
    """
    batch = _antialiased(image[None], plan.resized_hw)
    bottom, right = plan.padded_hw[0] - plan.resized_hw[0], plan.padded_hw[1] - plan.resized_hw[1]
    if bottom or right:
        rows = torch.arange(plan.padded_hw[0], device=batch.device).clamp_(max=plan.resized_hw[0] - 1)
        columns = torch.arange(plan.padded_hw[1], device=batch.device).clamp_(max=plan.resized_hw[1] - 1)
        batch = batch[:, :, rows][:, :, :, columns]
    return batch[0]


def _antialiased(batch: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize (N, 3, h, w) uint8."""
    if tuple(batch.shape[2:]) == size_hw:
        return batch
    if batch.is_cuda:  # torch has no antialiased uint8 kernel there
        batch = batch.float()
    batch = F.interpolate(batch, size_hw, mode="bilinear", align_corners=False, antialias=True)
    return batch.round_().clamp_(0, 255).byte() if batch.is_cuda else batch


def cut(image: Tensor, plan: WindowPlan) -> Tensor:
    """Cut all windows, including the fovea, from an image: (3, H, W) uint8 to (N, 3, h, w)."""
    crops = crop(resize(image, plan), plan)
    if plan.fovea is None:
        return crops
    rows, columns = plan.fovea.seen.slices
    return torch.cat((crops, _antialiased(image[None, :, rows, columns], plan.crop_hw)))


def crop(image: Tensor, plan: WindowPlan) -> Tensor:
    """Cut the windows, without the fovea, from a resized image: (C, H', W') to (N, C, h, w)."""
    height, width = plan.crop_hw
    return torch.stack([image[:, y : y + height, x : x + width] for y, x in plan.origins_yx])


def stitch(windows: Tensor, plan: WindowPlan) -> Tensor:
    """Combine the results of the windows, as a weighted average where they overlap.

    Args:
        windows: (N, C, h, w) float, in the order of :func:`cut`.
        plan: of the windows.

    Returns:
        (C, H', W') of the plan's resized size (padding is dropped).
    """
    canvas = OverlapAccumulator(plan)
    for window in windows:
        canvas.add(window)
    return canvas.average()


class OverlapAccumulator:
    """Accumulate the results of windows one by one: :func:`stitch` for windows that come in batches."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._places = iter(plan.origins_yx)
        self._total: Tensor | None = None
        self._magnified: Tensor | None = None

    def add(self, window: Tensor) -> None:
        """Add the result of the next window, (C, h, w) float, in the order of :func:`cut`.

        Raises:
            ValueError: if there are more than planned.
        """
        place = next(self._places, None)
        if place is None:
            if self._plan.fovea is None or self._magnified is not None:
                raise ValueError(f"there must be {self._plan.num_windows} windows, got one more")
            size_hw = self._plan.fovea.laid.height, self._plan.fovea.laid.width
            scaled = F.interpolate(window[None], size_hw, mode="bilinear", align_corners=False, antialias=True)
            self._magnified = scaled[0]
            return
        y, x = place
        height, width = self._plan.crop_hw
        if self._total is None:
            self._total = window.new_zeros((window.shape[0], *self._plan.padded_hw))
        if self._plan.blend != "uniform":
            weights = _blend_weights(self._plan, window.device, window.dtype)
            window = window * (weights.crop_y[:, None] * weights.crop_x)
        self._total[:, y : y + height, x : x + width].add_(window)  # += would copy the sum onto itself

    def average(self) -> Tensor:
        """Return the average after the last window, (C, H', W') of the plan's resized size, without padding.

        Raises:
            ValueError: if windows are missing.
        """
        missing = len(list(self._places)) + (self._plan.fovea is not None and self._magnified is None)
        if self._total is None or missing:
            raise ValueError(f"all {self._plan.num_windows} windows must be added, {missing} are missing")
        weights = _blend_weights(self._plan, self._total.device, self._total.dtype)
        self._total /= weights.sum_y[:, None] * weights.sum_x  # weights are products, so their sum over a grid is too
        whole = self._total[:, : self._plan.resized_hw[0], : self._plan.resized_hw[1]]
        if self._plan.fovea is not None and self._magnified is not None:
            rows, columns = self._plan.fovea.laid.slices
            part = whole[:, rows, columns]
            part += (self._magnified - part) * _fovea_weight(self._plan.fovea.laid, part.device, part.dtype)
        return whole


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _fovea_weight(laid: Box, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weight of the fovea in the result, (h, w)."""
    sides = []
    for length in (laid.height, laid.width):
        centre = (torch.arange(length, dtype=torch.float64) + 0.5) / length
        sides.append((torch.minimum(centre, 1 - centre) / _FADING).clamp(max=1.0))
    return (_FOVEA_WEIGHT * torch.minimum(sides[0][:, None], sides[1])).to(device, dtype)


class _BlendWeights(NamedTuple):
    """The weights of a window along each side, and their sums over all windows of the plan."""

    crop_y: Tensor
    crop_x: Tensor
    sum_y: Tensor
    sum_x: Tensor


@lru_cache(maxsize=64)  # so that no frame waits for a copy to the GPU
@torch.inference_mode(False)  # so that the cached tensors can be used in training too
def _blend_weights(plan: WindowPlan, device: torch.device, dtype: torch.dtype) -> _BlendWeights:
    sides = zip(plan.crop_hw, plan.padded_hw, (plan.starts_y, plan.starts_x), strict=True)
    (crop_y, sum_y), (crop_x, sum_x) = (_side_weights(*side, plan.blend, dtype) for side in sides)
    return _BlendWeights(*(weight.to(device) for weight in (crop_y, crop_x, sum_y, sum_x)))


def _side_weights(
    crop: int, padded: int, starts: tuple[int, ...], blend: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    weight = torch.ones(crop, dtype=dtype)
    if blend == "hann":
        centre = torch.arange(crop, dtype=torch.float64) + 0.5
        weight = torch.sin(math.pi * centre / crop).square().to(dtype)
    total = torch.zeros(padded, dtype=dtype)
    for start in starts:
        total[start : start + crop] += weight
    return weight, total


def to_image_size(stitched: Tensor, plan: WindowPlan) -> Tensor:
    """Resize stitched results to the image: (C, H', W') to (C, H, W), bilinear."""
    if tuple(stitched.shape[1:]) == plan.image_hw:
        return stitched
    return F.interpolate(stitched[None], plan.image_hw, mode="bilinear", align_corners=False)[0]


def classes_at_image_size(stitched: Tensor, plan: WindowPlan) -> Tensor:
    """Resize a stitched semantic map to the image and take the best class of each pixel, the first of equals.

    On a GPU that runs Triton's kernels this is one; else one class is resized at a time to save memory.

    Args:
        stitched: (C, H', W'), C ≤ 256.
        plan: of the windows.

    Returns:
        (H, W) uint8.
    """
    if obstacle_to_triton(stitched.device) is None:
        from eomt_ext_core.kernels.class_map import class_map

        with torch.cuda.device_of(stitched):  # type: ignore[no-untyped-call]
            return class_map(stitched, plan.image_hw)
    best = to_image_size(stitched[:1], plan)[0]
    classes = torch.zeros_like(best, dtype=torch.uint8)
    for index in range(1, len(stitched)):
        value = to_image_size(stitched[index : index + 1], plan)[0]
        classes.masked_fill_(value > best, index)
        best = torch.maximum(best, value)
    return classes


def to_two_channels(logits: Tensor) -> Tensor:
    """Convert anomaly logits to the two channels (0, L) for multi-class stitching.

    Args:
        logits: (N, 1, h, w).

    Returns:
        (N, 2, h, w); the second channel of their softmax is sigmoid(L).
    """
    return torch.cat((torch.zeros_like(logits), logits), dim=1)
