"""Metrics of road-anomaly segmentation: per pixel, per obstacle, and calibration."""

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, VOID
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, OBSTACLE_TRACK, SegmentTrack
from eomt_ext_core.evaluation.metrics.calibration import Calibration, CalibrationResult
from eomt_ext_core.evaluation.metrics.pixel_metrics import PixelCurve, PixelMetrics, PixelResult
from eomt_ext_core.evaluation.metrics.segment_metrics import SIOU_THRESHOLDS, SegmentMetrics, SegmentResult

__all__ = [
    "ANOMALOUS",
    "ANOMALY_TRACK",
    "NORMAL",
    "OBSTACLE_TRACK",
    "SIOU_THRESHOLDS",
    "VOID",
    "Calibration",
    "CalibrationResult",
    "PixelCurve",
    "PixelMetrics",
    "PixelResult",
    "SegmentMetrics",
    "SegmentResult",
    "SegmentTrack",
]
