"""Does an exported file give what the engine gives?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eomt_ext_core.errors import InferenceError
from eomt_ext_core.scenes import SceneConfig, render_scene

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
_ANY_BATCH = (1, 3)
_SMALLEST_SCENE = 64

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
    """Score drawn road scenes by both.

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
    """Road scenes as windows, (count, 3, h, w) uint8, the same each time."""
    height, width = crop_hw
    size_hw = max(height, _SMALLEST_SCENE), max(width, _SMALLEST_SCENE)
    scenes = [render_scene(seed, SceneConfig(size_hw=size_hw)).image_rgb[:height, :width] for seed in range(count)]
    return torch.stack([torch.from_numpy(scene.copy()).permute(2, 0, 1) for scene in scenes])
