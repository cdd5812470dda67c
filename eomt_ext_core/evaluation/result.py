"""What an evaluation found, as plain values that make the same JSON wherever and in however many parts it ran."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from eomt_ext_core.evaluation.calibration import CalibrationResult
from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.evaluation.pixel_metrics import PixelCurve, PixelResult
from eomt_ext_core.evaluation.segment_metrics import SegmentResult


@dataclass(frozen=True)
class FrameScore:
    """One score on one labelled frame; what the frame leaves undefined is NaN.

    ``recall`` and ``false_positive_rate`` are taken at the threshold of the best F1 of the whole set.
    """

    auprc: float
    fpr95: float
    auroc: float
    recall: float
    false_positive_rate: float


@dataclass(frozen=True)
class FrameResult:
    """One frame: ``scores`` is empty where it has no labels; ``num_valid`` and ``num_anomalous`` count pixels.

    ``mask_share``: share of all pixels whose first score is above the mask threshold of the run.
    """

    frame_id: str
    size_hw: tuple[int, int]
    num_valid: int
    num_anomalous: int
    mask_share: float
    scores: dict[str, FrameScore]

    @property
    def badness(self) -> tuple[int, float, str]:
        """Sorts the worst frame first: by AuPRC of the first score, then, where there is none, by size of the mask."""
        first = next(iter(self.scores.values()), None)
        if first is None or math.isnan(first.auprc):
            return 1, -self.mask_share, self.frame_id
        return 0, first.auprc, self.frame_id


@dataclass(frozen=True)
class ScoreResult:
    """One score on the whole set; ``segment`` is None where no pixel is anomalous, so that there is no threshold."""

    pixel: PixelResult
    segment: SegmentResult | None
    calibration: CalibrationResult
    curve: PixelCurve


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluated set.

    ``scores``: by name, in the order asked for, the first being the one that pictures and sorting follow; empty where
    no frame has labels. ``frames``: sorted by frame id. ``panels``: pictures of the worst frames, by frame id, worst
    first. ``latency_ms``: of the frames whose latency is known; it is no part of :meth:`to_json`, so that two runs
    that found the same say the same. ``skipped``: by id, why a frame that belongs to the set is not in it.
    """

    name: str
    track: str
    mode: str
    scores: dict[str, ScoreResult]
    frames: tuple[FrameResult, ...]
    panels: dict[str, Panel]
    latency_ms: dict[str, float]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def num_found(self) -> int:
        """Frames that were looked at: evaluated or skipped."""
        return len(self.frames) + len(self.skipped)

    @property
    def num_labelled(self) -> int:
        """Frames with labels."""
        return sum(bool(frame.scores) for frame in self.frames)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Which metrics there are not, and why, a line each."""
        lines = []
        pixel = next((score.pixel for score in self.scores.values()), None)
        if pixel is not None and not pixel.num_anomalous:
            lines.append("no pixel is anomalous: there is no AuPRC, FPR95, AUROC or F1, and no segment metric")
        elif pixel is not None and pixel.num_anomalous == pixel.num_valid:
            lines.append("no pixel is normal: there is no FPR95 and no AUROC")
        segments = {name: score.segment for name, score in self.scores.items() if score.segment is not None}
        if any(not segment.num_ground_truth for segment in segments.values()):
            lines.append("no labelled obstacle is of the least size that counts: there is no sIoU")
        for name in (name for name, segment in segments.items() if not segment.num_predicted):
            lines.append(f"{name}: nothing found is of the least size that counts: there is no PPV")
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """Metrics as values for ``json.dumps``; NaN becomes None."""
        scores = {
            name: {
                "pixel": asdict(result.pixel),
                "segment": asdict(result.segment) if result.segment is not None else None,
                "calibration": asdict(result.calibration),
            }
            for name, result in self.scores.items()
        }
        plain: dict[str, Any] = without_nan(
            {
                "name": self.name,
                "track": self.track,
                "mode": self.mode,
                "num_found_frames": self.num_found,
                "num_frames": len(self.frames),
                "num_labelled_frames": self.num_labelled,
                "scores": scores,
                "undefined": list(self.undefined),
                "frames": [asdict(frame) for frame in self.frames],
                "skipped": self.skipped,
            }
        )
        return plain


def without_nan(value: Any) -> Any:
    """Copy of nested dicts, lists and tuples in which every NaN or infinity is None, as JSON has neither."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
