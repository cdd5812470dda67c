"""Make the known answer that is stored with a model."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from eomt_ext_core.config import SCORES, EngineConfig
from eomt_ext_core.engine.anomaly_engine import AnomalyEngine
from eomt_ext_core.export.check import bundled_windows
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.probe import Probe

_PIXELS = 4000


def make_probe(model: EoMTExt) -> dict[str, Any]:
    """Ask a model for all its scores of a bundled drawing, in float32 on the CPU.

    Returns:
        JSON values, for :func:`~eomt_ext_core.model.checkpoint.save_model`.

    Raises:
        InferenceError: if the model has a probe already and answers it differently, or a score is not finite.
    """
    has_head = model.anomaly_head is not None
    score = "head" if has_head else "rba"
    engine = AnomalyEngine(model, EngineConfig(device="cpu", precision="fp32", optimize="none", score=score))
    engine.self_test()
    rows, columns = model.config.grid_hw
    factor = max(1, int((_PIXELS / (rows * columns)) ** 0.5))
    image = cv2.resize(bundled_windows()[0], (columns * factor, rows * factor), interpolation=cv2.INTER_AREA)
    image_rgb = np.asarray(image, dtype=np.uint8)
    names = SCORES if has_head else tuple(name for name in SCORES if name != "head")
    scores = {name: engine.averaged_score(image_rgb, name) for name in names}
    return Probe(model.config.crop_hw, image_rgb, scores).to_json()
