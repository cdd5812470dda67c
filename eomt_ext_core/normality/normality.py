"""What a drive taught: how far a patch is from the ordinary, and how that is read as a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.normality.drift import DriftReference
from eomt_ext_core.normality.patch_distance import PatchDistance

LARGEST_WEIGHT = 1e6


@dataclass(frozen=True)
class Reading:
    """How a score is read: logit = ``head`` · (the head's logit) + ``distance`` · (the patch's distance) + ``shift``.

    Above 0 lies the fraction of held-out pixels that was asked for as false alarms.

    Raises:
        CheckpointError: if a number is not finite or out of range, or nothing counts.
    """

    head: float
    distance: float
    shift: float

    def __post_init__(self) -> None:
        for name, least in (("head", 0.0), ("distance", 0.0), ("shift", -LARGEST_WEIGHT)):
            value = getattr(self, name)
            is_number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or not least <= value <= LARGEST_WEIGHT:
                raise CheckpointError(f"a reading's {name} must be from {least:g} to {LARGEST_WEIGHT:g}, got {value!r}")
        if not self.distance:
            raise CheckpointError("a reading's distance must count, got the weight 0")

    def __call__(self, head: Tensor | None, distance: Tensor) -> Tensor:
        """Give the logits of any shape; ``head`` may be None if it does not count."""
        logits = self.distance * distance + self.shift
        return logits if head is None else logits + self.head * head


@dataclass(frozen=True)
class Normality:
    """What a drive taught, for one network.

    Attributes:
        distance: from ordinary patches.
        readings: of the scores that it gives, ``normality`` and, if the model has a head, ``fused``; none if it
            was learnt from images with anomalies, to watch drives only.
        origin: which network it belongs to, as :func:`~eomt_ext_core.engine.loading.load_scorer` names it:
            ``checkpoint_sha256``, and ``head_sha256`` for a head of its own file.
        about: what it was learnt from, for people; JSON values.
        drift: how strange each of its held-out images was, by the mean distance of its pixels; None if they were too
            few.
    """

    distance: PatchDistance
    readings: Mapping[str, Reading]
    origin: Mapping[str, str]
    about: Mapping[str, object] = field(default_factory=dict)
    drift: DriftReference | None = None
