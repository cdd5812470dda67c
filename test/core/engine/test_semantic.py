from collections.abc import Callable

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyEngine, ConfigError, EngineConfig, EoMTExt, HeadConfig, WindowConfig, windows
from eomt_ext_core.scoring.uncertainty import semantic_map

Make = Callable[..., EoMTExt]
IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    for seed, size in enumerate([(75, 200), (130, 41)])
]


@pytest.mark.parametrize("config", [WindowConfig(), WindowConfig(mode="grid", overlap=0.4, blend="hann")])
@torch.no_grad()
def test_classes_are_the_arg_max_of_the_stitched_semantic_map(tiny_model: Make, config: WindowConfig) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    engine = AnomalyEngine(model, EngineConfig(device="cpu", precision="fp32", windows=config))
    for image, frame, alone in zip(
        IMAGES, engine.infer_batch(IMAGES, semantic=True), engine.infer_batch(IMAGES), strict=True
    ):
        plan = windows.plan(image.shape[:2], model.config.crop_hw, config)
        crops = windows.crop(windows.resize(torch.from_numpy(image).permute(2, 0, 1), plan), plan)
        masks, classes, _ = model(crops / 255)
        whole = windows.to_image_size(windows.stitch(semantic_map(masks, classes, plan.crop_hw), plan), plan)
        assert frame.semantic is not None
        assert frame.semantic.shape == image.shape[:2]
        assert frame.semantic.dtype == np.uint8
        chosen = whole.gather(0, torch.from_numpy(frame.semantic).long()[None])[0]
        assert (chosen >= 0.999 * whole.amax(dim=0)).all()  # where classes are next to equal, rounding decides
        assert (frame.semantic == whole.argmax(dim=0).numpy()).mean() > 0.99
        assert len(np.unique(frame.semantic)) > 1
        np.testing.assert_array_equal(frame.probability, alone.probability)
        assert alone.semantic is None


def test_first_of_equal_classes_wins_at_image_size() -> None:
    plan = windows.plan((4, 8), (2, 2), WindowConfig())
    stitched = torch.tensor([1.0, 3.0, 3.0, 2.0])[:, None, None].expand(-1, *plan.resized_hw)
    classes = windows.classes_at_image_size(stitched, plan)
    assert classes.dtype == torch.uint8
    assert classes.tolist() == [[1] * 8] * 4


def test_more_classes_than_ids_are_refused(tiny_model: Make) -> None:
    engine = AnomalyEngine(tiny_model(num_classes=257), EngineConfig(device="cpu", score="rba", threshold=1.0))
    assert not engine.has_semantic
    with pytest.raises(ConfigError, match="at most 256 classes, got 257"):
        engine.infer_batch(IMAGES, semantic=True)
