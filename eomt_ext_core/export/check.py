"""Comparison of an exported file with the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core.errors import InferenceError
from eomt_ext_core.images import decode_rgb

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-1}
_ANY_BATCH = (1, 3)
_PROBE_HW = 96, 160

Score = Callable[[Tensor, Sequence[str]], Tensor]


@dataclass(frozen=True)
class Difference:
    """The difference between an exported file and the engine in one score.

    Attributes:
        score: its name.
        difference: the largest absolute difference in any pixel of all probes; NaN if a pixel is NaN.
        allowed: ``TOLERANCE`` times the largest absolute value of the score, or times 1 if that is less.
    """

    score: str
    difference: float
    allowed: float

    @property
    def fits(self) -> bool:
        """Whether the difference is allowed."""
        return self.difference <= self.allowed


def compare(
    reference: Score, exported: Score, scores: Sequence[str], crop_hw: tuple[int, int], batch: int, precision: str
) -> list[Difference]:
    """Compare the scores of an exported file and of the engine on the bundled road scenes.

    Args:
        reference: the engine's scores, in float32.
        exported: the file's scores.
        scores: names of the scores to compare.
        crop_hw: size of a window in pixels.
        batch: windows in each call of ``exported``, or 0 for any number: then one and three are tried.
        precision: of the exported network.

    Returns:
        a difference for each score, in order.

    Raises:
        InferenceError: if a difference is larger than allowed.
    """
    differences = []
    probes = probe_crops(crop_hw, batch or max(_ANY_BATCH))
    batches = [batch] if batch else list(_ANY_BATCH)
    for score in scores:
        expected = torch.cat([reference(probe, (score,)).cpu().clone() for probe in torch.split(probes, 1)])
        found = [exported(probes[:count], (score,)).cpu() - expected[:count] for count in batches]
        largest = torch.stack([difference.abs().max() for difference in found]).max()
        allowed = TOLERANCE[precision] * max(1.0, float(expected.abs().max()))
        differences.append(Difference(score, float(largest), allowed))
    wrong = [item for item in differences if not item.fits]
    if wrong:
        listed = ", ".join(f"{item.score} by {item.difference:.2g} (allowed {item.allowed:.2g})" for item in wrong)
        swapped = _fits_turned(reference, exported, wrong[0].score, probes[: batches[0]], wrong[0].allowed)
        reason = "layer encoder.backbone.patch_embed: red and blue are swapped; " if swapped else ""
        raise InferenceError(f"the exported file is discarded: {reason}it differs from the engine in {listed}")
    return differences


def _fits_turned(reference: Score, exported: Score, score: str, probes: Tensor, allowed: float) -> bool:
    """Whether the file gives for windows with red and blue swapped what the engine gives for the windows."""
    expected = torch.cat([reference(probe, (score,)).cpu().clone() for probe in torch.split(probes, 1)])
    return float((exported(probes.flip(1), (score,)).cpu() - expected).abs().max()) <= allowed


def probe_crops(crop_hw: tuple[int, int], count: int) -> Tensor:
    """Resize the bundled drawings of road scenes to windows, (count, 3, h, w) uint8.

    There are three drawings; further windows repeat them, moved 8 pixels to the right each time.
    """
    windows = bundled_windows()
    moved = [np.roll(windows[index % len(windows)], index // len(windows) * 8, axis=1) for index in range(count)]
    resized = [cv2.resize(window, crop_hw[::-1], interpolation=cv2.INTER_LINEAR) for window in moved]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()


def bundled_windows() -> NDArray[np.uint8]:
    """Read the bundled drawings, (3, 96, 160, 3) uint8 RGB."""
    data = (resources.files("eomt_ext_core") / "assets" / "probe_windows.png").read_bytes()
    return decode_rgb(data).reshape(-1, *_PROBE_HW, 3)
