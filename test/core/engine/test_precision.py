"""Half precision against single, with the demonstration model: on photographs, and by what it finds in drawn scenes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from eomt_ext_core import AnomalyEngine, EngineConfig
from eomt_ext_core.scenes import SceneConfig, render_scene

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "road_frames"


@pytest.fixture(scope="module")
def engines() -> list[AnomalyEngine]:
    return [AnomalyEngine.load("demo", EngineConfig(device="cpu", precision=name)) for name in ("fp32", "bf16")]


def test_bf16_differs_little_on_real_frames(engines: list[AnomalyEngine]) -> None:
    files = sorted(FOLDER.glob("*.jpg"))
    if not files:
        pytest.skip("no folder shared/road_frames beside the checkout")
    differences = []
    for file in files:
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        exact, rough = (engine.infer(np.asarray(image, np.uint8)).probability for engine in engines)
        differences.append(np.abs(rough - exact))
    assert np.quantile(np.stack(differences), 0.999) <= 0.02
    assert max(float(difference.max()) for difference in differences) > 0


def test_bf16_finds_as_much_in_drawn_scenes(engines: list[AnomalyEngine]) -> None:
    scenes = [render_scene(500_000 + seed, SceneConfig()) for seed in range(3)]
    labels = np.concatenate([scene.labels.ravel() for scene in scenes])

    def auprc(engine: AnomalyEngine) -> float:
        found: list[NDArray[np.float32]] = [engine.infer(scene.image_rgb).probability.ravel() for scene in scenes]
        return float(average_precision_score(labels[labels != 255] == 1, np.concatenate(found)[labels != 255]))

    exact, rough = map(auprc, engines)
    assert exact > 0.3
    assert abs(rough - exact) <= 0.005
