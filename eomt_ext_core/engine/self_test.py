"""Does the model answer here as it did where it was made?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.backends.window_scorer import WindowScorer
from eomt_ext_core.errors import InferenceError
from eomt_ext_core.model.vit import IMAGENET_MEAN, IMAGENET_STD
from eomt_ext_core.scoring.probe import Probe

ALLOWED = {"fp32": 0.001, "fp16": 0.005, "bf16": 0.03, "int8": 0.15}
"""By precision, the root mean square of the differences that is allowed, as a fraction of the scores' own spread."""

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

# What is added for a stride of the scores, which misses sharp edges; baselines have more of them than the head.
_FOR_STRIDE = {"head": {2: 0.02, 4: 0.1}, "baseline": {2: 0.05, 4: 0.4}}


def check_known_answer(scorer: WindowScorer, name: str, score: Score) -> str:
    """Compare a score of the probe that came with a model with the stored one.

    Args:
        scorer: of the model.
        name: of the score.
        score: gives it for an image, averaged over the cells of the probe's grid.

    Returns:
        the outcome for people; a model without a probe runs unchecked.

    Raises:
        InferenceError: naming what differs.
    """
    probe = Probe.of(scorer.info)
    if probe is None or name not in probe.scores:
        return f"none, the model has no known answer for score {name}: `eomt-ext convert` adds one"
    facts = scorer.describe()
    where = f"(precision {scorer.precision}, {facts['backend']}, {facts.get('device', scorer.device)})"
    if probe.crop_hw != scorer.crop_hw:
        raise InferenceError(
            f"self-test failed {where}: the model was made for windows of {_size(probe.crop_hw)}, and runs with "
            f"{_size(scorer.crop_hw)}: its file is damaged; make or fetch it anew"
        )
    extra = _FOR_STRIDE["head" if name == "head" else "baseline"].get(int(facts["score_stride"]), 0.0)
    # onnxruntime multiplies fp32 as TF32 on a GPU, which has as many digits as fp16
    is_tf32 = scorer.precision == "fp32" and facts["backend"] == "onnxruntime" and facts["device"].startswith("cuda")
    expected, allowed = probe.scores[name], ALLOWED["fp16" if is_tf32 else scorer.precision] + extra
    found = score(probe.image_rgb)
    if difference(found, expected) <= allowed:
        return f"passed, {difference(found, expected):.1e} off, allowed {allowed:g}"
    raise InferenceError(
        f"self-test failed {where}: {_what_differs(found, expected, probe, score, allowed)}. Score {name} of a known "
        f"image is not what it was when the model was made; try precision fp32 and device cpu to tell file and machine "
        "apart"
    )


def difference(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Root mean square of the differences, as a fraction of the expected spread; NaN if one is not finite."""
    spread = max(float(expected.std()), 1e-3 * float(np.abs(expected).max()), 1e-6)
    return float(np.sqrt(np.mean((found - expected) ** 2))) / spread


def _what_differs(
    found: NDArray[np.float64], expected: NDArray[np.float64], probe: Probe, score: Score, allowed: float
) -> str:
    off = difference(found, expected)
    broken = int((~np.isfinite(found)).sum())
    if broken:
        return f"non-finite, {broken} of {found.size} values: the precision overflows, or weights are damaged"
    turned, clearly_less = np.ascontiguousarray(probe.image_rgb[..., ::-1]), max(allowed, off / 5)
    if any(difference(score(image), expected) <= clearly_less for image in (turned, _normalised_as_before(turned))):
        return "channel order, red and blue are swapped"
    text = (
        f"the difference is {off:.3g} of the scores' spread, allowed {allowed:g}; the largest "
        f"is {np.abs(found - expected).max():.3g}"
    )
    slope = float(((found - found.mean()) * (expected - expected.mean())).mean()) / max(float(expected.var()), 1e-12)
    offset = float(found.mean()) - slope * float(expected.mean())
    if slope and difference((found - offset) / slope, expected) <= allowed:
        return f"scale, the scores are {slope:.3g} times what they were, {offset:+.3g}; {text}"
    return f"weights, normalisation or arithmetic, {text}"


def _normalised_as_before(turned: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image with red and blue swapped, each such that normalising gives it the values that the other had."""
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    values = mean + std * (turned / 255 - mean[::-1]) / std[::-1]
    image: NDArray[np.uint8] = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return image


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}×{size_hw[0]}"
