"""The path of a frame: from an image to the anomaly probability of each of its pixels."""

from eomt_ext_core.engine.anomaly_engine import AnomalyEngine
from eomt_ext_core.engine.frame import AnomalyFrame, Explanation

__all__ = ["AnomalyEngine", "AnomalyFrame", "Explanation"]
