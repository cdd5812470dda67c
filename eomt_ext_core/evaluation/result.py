"""The result of an evaluation, as plain values with the same JSON for any number of workers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.metrics.calibration import CalibrationResult
from eomt_ext_core.evaluation.metrics.pixel_metrics import PixelCurve, PixelResult
from eomt_ext_core.evaluation.metrics.segment_metrics import SegmentResult
from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.files import without_nan
from eomt_ext_core.intervals.frame_counts import FloatArray, FrameCounts, pack_edges

_LEAST_NORMAL = 2.0**-126  # of float32


@dataclass(frozen=True)
class FrameScore:
    """Metrics of one score on one labelled frame; undefined metrics are NaN.

    ``recall`` and ``false_positive_rate`` are at the threshold of the best F1 of the whole set.
    """

    auprc: float
    fpr95: float
    auroc: float
    recall: float
    false_positive_rate: float


@dataclass(frozen=True)
class FrameResult:
    """One frame: ``scores`` is empty if it has no labels; ``num_valid`` and ``num_anomalous`` count pixels.

    ``mask_fraction``: fraction of all pixels with a first score above the mask threshold of the run.
    ``largest_probability``: of the first score. ``num_found`` and ``num_false``: pixels of that mask that are labelled
    anomalous, and normal.
    """

    frame_id: str
    size_hw: tuple[int, int]
    num_valid: int
    num_anomalous: int
    mask_fraction: float
    largest_probability: float
    scores: dict[str, FrameScore]
    num_found: int = 0
    num_false: int = 0

    @property
    def badness(self) -> tuple[int, float, str]:
        """Sort key, worst frame first: by AuPRC of the first score; frames without one follow, by size of the mask."""
        first = next(iter(self.scores.values()), None)
        if first is None or math.isnan(first.auprc):
            return 1, -self.mask_fraction, self.frame_id
        return 0, first.auprc, self.frame_id


def threshold_text(value: float, form: str) -> str:
    """Format a threshold for people: a dash if there is none; the next number below 0, which marks all scores, as < 0.

    >>> threshold_text(0.25, ".3f"), threshold_text(-1.4e-45, ".3f"), threshold_text(-0.25, ".3f")
    ('0.250', '< 0', '-0.250')
    """
    if math.isnan(value):
        return "–"
    return "< 0" if -_LEAST_NORMAL < value < 0 else format(value, form)


@dataclass(frozen=True)
class MaskResult:
    """The masks of a run: which fractions of the anomalous and of the normal pixels lie in them; NaN if undefined."""

    threshold: float
    recall: float
    false_positive_rate: float

    def __str__(self) -> str:
        """Say it in a sentence.

        >>> str(MaskResult(threshold=0.5, recall=0.612, false_positive_rate=0.0213))
        'The masks, above 0.5, hold 61.20 % of the anomalous pixels and 2.13 % of the normal ones.'
        """
        held = (self.recall, "the anomalous pixels"), (self.false_positive_rate, "the normal ones")
        known = [f"{100 * fraction:.2f} % of {pixels}" for fraction, pixels in held if not math.isnan(fraction)]
        return f"The masks, above {self.threshold:.5g}, hold {' and '.join(known)}."


@dataclass(frozen=True)
class ScoreResult:
    """Metrics of one score on the whole set; ``segment`` is None if no pixel is anomalous: then it has no threshold."""

    pixel: PixelResult
    segment: SegmentResult | None
    calibration: CalibrationResult
    curve: PixelCurve


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluated set.

    ``scores``: by name, in the given order, the first is used for thumbnails and sorting; empty if no frame has labels.
    ``frames``: sorted by frame id. ``panels``: thumbnails of the worst frames, by frame id, worst first.
    ``latency_ms``: by frame id, if known; not part of :meth:`to_json`, so that equal results have equal JSON.
    ``skipped``: by frame id, the reason why a frame of the set was not evaluated. ``edges``: (K,) of each score,
    descending, and ``counts``: by frame id and score, the pixels between them and the components, for intervals.
    ``engines``: what ran, as each engine describes itself, and ``details``: by frame id, for the report; neither is
    part of :meth:`to_json`. ``mask_threshold``: of the run; 1 if it has none.
    """

    name: str
    track: str
    mode: str
    scores: dict[str, ScoreResult]
    frames: tuple[FrameResult, ...]
    panels: dict[str, Panel]
    latency_ms: dict[str, float]
    skipped: dict[str, str] = field(default_factory=dict)
    edges: dict[str, FloatArray] = field(default_factory=dict)
    counts: dict[str, dict[str, FrameCounts]] = field(default_factory=dict)
    engines: tuple[dict[str, str], ...] = ()
    details: dict[str, FrameDetail] = field(default_factory=dict)
    mask_threshold: float = 0.5

    @property
    def num_found(self) -> int:
        """Number of frames, evaluated or skipped."""
        return len(self.frames) + len(self.skipped)

    @property
    def num_labelled(self) -> int:
        """Number of frames with labels."""
        return sum(bool(frame.scores) for frame in self.frames)

    @property
    def mask(self) -> MaskResult | None:
        """What the masks of the run find; None if no frame has labels, or the run has no threshold."""
        labelled = [frame for frame in self.frames if frame.scores]
        if not labelled or self.mask_threshold >= 1.0:
            return None
        anomalous, valid, found, false = (
            sum(getattr(frame, name) for frame in labelled)
            for name in ("num_anomalous", "num_valid", "num_found", "num_false")
        )
        normal = valid - anomalous
        return MaskResult(
            self.mask_threshold, found / anomalous if anomalous else math.nan, false / normal if normal else math.nan
        )

    @property
    def undefined(self) -> tuple[str, ...]:
        """List the metrics that are undefined and why, a line each."""
        lines = []
        pixel = next((score.pixel for score in self.scores.values()), None)
        if pixel is not None and not pixel.num_anomalous:
            lines.append("no pixel is anomalous: AuPRC, FPR95, AUROC, F1 and the segment metrics are undefined")
        elif pixel is not None and pixel.num_anomalous == pixel.num_valid:
            lines.append("no pixel is normal: FPR95 and AUROC are undefined")
        segments = {name: score.segment for name, score in self.scores.items() if score.segment is not None}
        if any(not segment.num_ground_truth for segment in segments.values()):
            lines.append("all labelled obstacles are too small for the track: sIoU is undefined")
        for name in (name for name, segment in segments.items() if not segment.num_predicted):
            lines.append(f"{name}: all found obstacles are too small for the track: PPV is undefined")
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as values for ``json.dumps``; NaN becomes None."""
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
                "mask": asdict(self.mask) if self.mask is not None else None,
                "undefined": list(self.undefined),
                "frames": [asdict(frame) for frame in self.frames],
                "skipped": self.skipped,
                "edges": {name: pack_edges(edges) for name, edges in self.edges.items()},
                "counts": {
                    frame_id: {name: counts.to_json() for name, counts in by_score.items()}
                    for frame_id, by_score in self.counts.items()
                },
            }
        )
        return plain


def data_digest(results: Sequence[EvaluationResult]) -> str:
    """Give the SHA-256 of the list of frames: set, id, size, valid and anomalous pixels of each.

    Runs over the same images with the same labels have the same, whatever was run on them.
    """
    lines = [
        "\t".join(map(str, (result.name, frame.frame_id, frame.size_hw, frame.num_valid, frame.num_anomalous)))
        for result in results
        for frame in result.frames
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
