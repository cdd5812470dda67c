"""Uncertainty of a frozen EoMT: the dense semantic map, its statistics, and the baseline scores.

Shapes: B images, Q queries, C semantic classes, H×W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.config import SCORES

NUM_STATISTICS = 4
SEMANTIC_FLOOR = 1e-7

BASELINES = tuple(score for score in SCORES if score != "head")


def semantic_map(mask_logits: Tensor, class_logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Sum mask probability times class probability over the queries, at ``size_hw``.

    The no-object class (the last) is dropped after the softmax, so a pixel's values need not add up to 1.

    Args:
        mask_logits: (B, Q, h, w).
        class_logits: (B, Q, C + 1).
        size_hw: height and width of the result.

    Returns:
        (B, C, H, W), each value ≥ 0.
    """
    masks = F.interpolate(mask_logits, size_hw, mode="bilinear", align_corners=False).sigmoid()
    classes = class_logits.softmax(dim=-1)[..., :-1]
    return torch.einsum("bqhw,bqc->bchw", masks, classes)


def statistics(semantic: Tensor) -> Tensor:
    """Stack the four statistics of EoMT-EXT: max_prob, entropy, energy, msp = 1 − max_prob.

    Args:
        semantic: (B, C, H, W), the semantic map.

    Returns:
        (B, H, W, 4).
    """
    max_prob = semantic.amax(dim=1)
    floored = semantic.clamp(min=SEMANTIC_FLOOR)
    entropy = -(floored * floored.log()).sum(dim=1)
    energy = semantic.sum(dim=1)
    return torch.stack((max_prob, entropy, energy, 1 - max_prob), dim=-1)


def baseline_score(semantic: Tensor, kind: str) -> Tensor:
    """Score a frozen model without a trained head, with the semantic map in place of logits or of probabilities.

    Larger is more anomalous. ``msp`` is 1 − max softmax (Hendrycks & Gimpel 2017), ``max_logit`` is −max (Hendrycks et
    al. 2022), ``entropy`` that of the softmax, ``energy`` is −logsumexp (Liu et al. 2020), ``rba`` is −Σ tanh (Nayal et
    al. 2023). The map S is neither logits nor a distribution: ``msp_prob`` is 1 − max p and ``entropy_prob`` the
    entropy of p = S / ΣS, which is what the papers mean by msp and entropy of a network that gives probabilities.

    Args:
        semantic: (B, C, H, W).
        kind: one of ``BASELINES``.

    Returns:
        (B, H, W).

    Raises:
        ValueError: if ``kind`` is not one of them.
    """
    if kind == "msp":
        return 1 - semantic.softmax(dim=1).amax(dim=1)
    if kind == "max_logit":
        return -semantic.amax(dim=1)
    if kind == "entropy":
        log_probs = semantic.log_softmax(dim=1)
        return -(log_probs.exp() * log_probs).sum(dim=1)
    if kind == "energy":
        return -semantic.logsumexp(dim=1)
    if kind == "rba":
        return -semantic.tanh().sum(dim=1)
    if kind in ("msp_prob", "entropy_prob"):
        probability = semantic.clamp(min=SEMANTIC_FLOOR)
        probability = probability / probability.sum(dim=1, keepdim=True)
        return 1 - probability.amax(dim=1) if kind == "msp_prob" else -(probability.log() * probability).sum(dim=1)
    raise ValueError(f"score must be one of {', '.join(BASELINES)}, got {kind!r}")


def baseline_probability(score: Tensor, kind: str, num_classes: int) -> Tensor:
    """Map a baseline score to [0, 1] by a fixed, increasing function, to display it and apply a threshold.

    This is not a calibration. ``msp`` and ``msp_prob`` are already in [0, 1] and the entropies are divided by log C.
    The others have no lower bound, while most pixels of a working model have Σ S near 1: ``max_logit`` becomes
    exp(−max S), ``energy`` C·exp(−logsumexp S) and ``rba`` 1 − tanh(Σ tanh S), each of which is 1 for a semantic map of
    0.

    Args:
        score: any shape, from :func:`baseline_score` (after stitching).
        kind: one of ``BASELINES``.
        num_classes: C.

    Returns:
        the same shape, in [0, 1].

    Raises:
        ValueError: if ``kind`` is not one of them.
    """
    if kind in ("msp", "msp_prob"):
        mapped = score
    elif kind == "max_logit":
        mapped = score.exp()
    elif kind in ("entropy", "entropy_prob"):
        mapped = score / math.log(max(num_classes, 2))
    elif kind == "energy":
        mapped = num_classes * score.exp()
    elif kind == "rba":
        mapped = 1 + score.tanh()
    else:
        raise ValueError(f"score must be one of {', '.join(BASELINES)}, got {kind!r}")
    return mapped.clamp(0.0, 1.0)
