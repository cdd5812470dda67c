"""Does an exported file give what the engine gives?"""

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

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
_ANY_BATCH = (1, 3)
_PROBE_HW = 96, 160

Score = Callable[[Tensor, Sequence[str]], Tensor]


@dataclass(frozen=True)
class Difference:
    """How far the exported file is from the engine in one score.

    Attributes:
        score: its name.
        difference: the largest over all pixels of all probes; NaN where a pixel is not a number.
        allowed: ``TOLERANCE`` times the largest absolute value of the score, at least times 1.
    """

    score: str
    difference: float
    allowed: float

    @property
    def fits(self) -> bool:
        """Whether the file may be used."""
        return self.difference <= self.allowed


def compare(
    reference: Score, exported: Score, scores: Sequence[str], crop_hw: tuple[int, int], batch: int, precision: str
) -> list[Difference]:
    """Score the bundled road scenes by both.

    Args:
        reference: the engine's own, in float32.
        exported: the file's.
        scores: names, each compared by itself.
        crop_hw: size of a window in pixels.
        batch: windows of a call of ``exported``, or 0 for any number: then one and three.
        precision: of the exported network.

    Returns:
        one for each score, in order.

    Raises:
        InferenceError: where a difference is larger than allowed.
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
        raise InferenceError(f"the exported file differs from the engine in {listed}: it is not written")
    return differences


def probe_crops(crop_hw: tuple[int, int], count: int) -> Tensor:
    """Resize the bundled drawings of road scenes to windows, (count, 3, h, w) uint8, the same each time.

    There are three; from the fourth on they come again, each time moved 8 pixels further to the right.
    """
    windows = bundled_windows()
    moved = [np.roll(windows[index % len(windows)], index // len(windows) * 8, axis=1) for index in range(count)]
    resized = [cv2.resize(window, crop_hw[::-1], interpolation=cv2.INTER_LINEAR) for window in moved]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()


def bundled_windows() -> NDArray[np.uint8]:
    """Read the drawings that come with the package, (3, 96, 160, 3) uint8 RGB."""
    data = (resources.files("eomt_ext_core") / "assets" / "probe_windows.png").read_bytes()
    return decode_rgb(data).reshape(-1, *_PROBE_HW, 3)
