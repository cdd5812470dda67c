"""What a frame passes through on the device: upload, resize, windows, scores, stitching, download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core import windows
from eomt_ext_core.backends.window_scorer import WindowScorer
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_image, check_window_count
from eomt_ext_core.engine.transfer import Arrays, CudaTransfer, HostTransfer, Transfer
from eomt_ext_core.errors import InferenceError
from eomt_ext_core.stages import NETWORK_AND_SCORING, OUTPUTS, RESIZE, STITCH
from eomt_ext_core.windows import WindowPlan

_ROUNDING = 1e-6  # relative; some units in the last place of float32


class FramePath:
    """From images to their stitched scores on a scorer's device, and from results there to arrays.

    On a GPU everything is queued without waiting; only the arrays of :meth:`download` are waited for.

    Args:
        scorer: scores the windows.
        most_images: most images at a time; None if that is not known.

    Attributes:
        mark: called with the name of a stage when it ends, or when its end is queued.
    """

    def __init__(self, scorer: WindowScorer, most_images: int | None = None) -> None:
        self.mark: Callable[[str], None] = unmarked
        self._scorer, self._most_images = scorer, most_images
        self._on_gpu = scorer.device.type == "cuda"
        self._transfer: Transfer = CudaTransfer(scorer.device) if self._on_gpu else HostTransfer()

    def on_device(self) -> AbstractContextManager[object]:
        """Make the scorer's device the current one."""
        return torch.cuda.device(self._scorer.device) if self._on_gpu else nullcontext()

    @property
    def stages(self) -> bool:
        """Whether images and results are copied through memory that is made for their sizes."""
        return not isinstance(self._transfer, HostTransfer)

    def preparing(self) -> AbstractContextManager[None]:
        """Make memory for the sizes of images in the block, and of those before, so that none waits for it later."""
        return self._transfer.preparing()

    def stitched(
        self, images_rgb: Sequence[NDArray[np.uint8]], scores: Sequence[str], config: EngineConfig
    ) -> list[tuple[WindowPlan, Tensor]]:
        """Score images, their windows together in batches.

        Args:
            images_rgb: each (H, W, 3) uint8.
            scores: for the scorer.
            config: of windows and batches.

        Returns:
            for each image its plan and its scores, (K, H', W') float32 in the size that the plan resizes it to.

        Raises:
            ImageError: if an image has another shape or type, or needs more windows than allowed.
        """
        if not images_rgb:
            return []
        plans, crops = self.cut(images_rgb, config)
        self.mark(RESIZE)
        canvases = [windows.OverlapAccumulator(plan) for plan in plans]
        places = (canvas for canvas, plan in zip(canvases, plans, strict=True) for _ in range(plan.num_windows))
        for batch in torch.split(crops, self.batch_windows_of(config)):
            scored = self._scorer(batch, scores)
            self.mark(NETWORK_AND_SCORING)
            for window in scored:
                next(places).add(window)
            self.mark(STITCH)
        return [(plan, canvas.average()) for plan, canvas in zip(plans, canvases, strict=True)]

    def cut(self, images_rgb: Sequence[NDArray[np.uint8]], config: EngineConfig) -> tuple[list[WindowPlan], Tensor]:
        """Cut images, at least one; returns their plans, and all windows on the device, (N, 3, h, w) uint8."""
        plans = [self._plan(image, config) for image in images_rgb]
        with self._transfer.upload(images_rgb) as uploaded:
            cuts = [windows.cut(image, plan) for image, plan in zip(uploaded, plans, strict=True)]
            return plans, cuts[0] if len(cuts) == 1 else torch.cat(cuts)

    def batch_windows_of(self, config: EngineConfig) -> int:
        """Most windows that go through the network at a time: as many as configured, unless fewer are of use.

        The scorer may take fewer, and so many images may have fewer: what is not used need not be prepared. The windows
        of a wider image than usual go through the network in several batches.
        """
        each = windows.usual_count(config.windows)
        most = min(config.batch_windows, self._scorer.max_batch)
        return most if self._most_images is None or each is None else min(most, self._most_images * each)

    def download(
        self, results: Sequence[Tensor], scores: Sequence[Tensor], images_rgb: Sequence[NDArray[np.uint8]]
    ) -> Arrays:
        """Begin to download results, and check the scores that they were made from.

        The results themselves cannot tell: an infinite logit is a finite probability.

        Args:
            results: tensors on the device.
            scores: (H, W) each, that the results were made from.
            images_rgb: the image of each score.

        Returns:
            a function that waits for the results and returns them as arrays. It raises an ``InferenceError`` if a score
            is not finite, or is the same in every pixel of an image that is not.
        """
        if not scores:
            return list
        download = self._transfer.download([*results, torch.stack([torch.stack(torch.aminmax(s)) for s in scores])])

        def arrays() -> list[NDArray[Any]]:
            *arrays, extremes = download()
            self.mark(OUTPUTS)
            self._check(extremes, scores, images_rgb)
            return arrays

        return arrays

    def _check(
        self, extremes: NDArray[np.float32], scores: Sequence[Tensor], images_rgb: Sequence[NDArray[np.uint8]]
    ) -> None:
        where = f"(precision {self._scorer.precision} on {self._scorer.device})"
        if not np.isfinite(extremes).all():
            broken = sum(int(score.isfinite().logical_not().sum()) for score in scores)
            raise InferenceError(f"the network's result must be finite, got {broken} pixels that are not {where}")
        for (lowest, highest), image in zip(extremes, images_rgb, strict=True):
            spread = _ROUNDING * max(abs(lowest), abs(highest))  # of a constant, after resizing
            if highest - lowest <= spread and (image != image[0, 0]).any():
                raise InferenceError(
                    f"the network's result must depend on the image, got the score {lowest:g} for every pixel {where}: "
                    "its weights are damaged, or overflow at this precision"
                )

    def _plan(self, image: NDArray[np.uint8], config: EngineConfig) -> WindowPlan:
        check_image(image)
        image_hw, crop_hw = image.shape[:2], self._scorer.crop_hw
        check_window_count(image_hw, crop_hw, config)
        return windows.plan(image_hw, crop_hw, config.windows)


def unmarked(stage: str) -> None:
    """Mark nothing."""
