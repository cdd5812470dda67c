"""The third way to cut an image: the whole view, and a closer look at the far road."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eomt_ext_core import AnomalyEngine, EngineConfig, windows
from eomt_ext_core.config import WindowConfig
from eomt_ext_core.scenes import SceneConfig, render_scene

sides = st.one_of(st.integers(1, 100), st.integers(1, 8000))
configs = st.builds(
    WindowConfig, mode=st.just("fovea"), horizon=st.floats(0, 1), fovea=st.floats(0.1, 1), blend=st.just("hann")
)


@settings(max_examples=200, deadline=None)
@given(height=sides, width=sides, crop_hw=st.sampled_from([(16, 16), (64, 96), (640, 640)]), config=configs)
@example(height=1, width=8000, crop_hw=(64, 96), config=WindowConfig(mode="fovea", fovea=0.1))
@example(height=1, width=1, crop_hw=(16, 16), config=WindowConfig(mode="fovea", horizon=1.0))
def test_the_fovea_lies_inside_at_every_size(
    height: int, width: int, crop_hw: tuple[int, int], config: WindowConfig
) -> None:
    plan = windows.plan((height, width), crop_hw, config)
    whole = windows.plan((height, width), crop_hw, WindowConfig())
    assert plan.origins_yx == whole.origins_yx
    assert plan.num_windows == whole.num_windows + 1 == windows.count((height, width), crop_hw, config)
    assert plan.fovea is not None
    for box, size_hw in ((plan.fovea.seen, plan.image_hw), (plan.fovea.laid, plan.resized_hw)):
        assert min(box.height, box.width) >= 1
        assert 0 <= box.top <= box.top + box.height <= size_hw[0]
        assert 0 <= box.left <= box.left + box.width <= size_hw[1]


def test_it_is_laid_where_it_was_seen_around_the_horizon() -> None:
    plan = windows.plan((1080, 1920), (288, 512), WindowConfig(mode="fovea", horizon=0.4, fovea=0.5))
    assert plan.fovea is not None
    seen, laid = plan.fovea
    assert (seen.height, seen.width, seen.left) == (540, 960, 480)
    assert seen.top < 0.4 * 1080 < seen.top + seen.height / 2
    for inside, outside in zip(laid, seen, strict=True):
        assert inside == pytest.approx(outside * 288 / 1080, abs=1)


def test_its_window_is_that_part_of_the_image() -> None:
    image = torch.arange(3 * 144 * 256).reshape(3, 144, 256).remainder(251).byte()
    plan = windows.plan((144, 256), (72, 128), WindowConfig(mode="fovea", fovea=0.5))
    assert plan.fovea is not None
    crops = windows.cut(image, plan)
    rows, columns = plan.fovea.seen.slices
    assert crops.shape == (2, 3, 72, 128)
    assert torch.equal(crops[-1], image[:, rows, columns])
    assert torch.equal(crops[:-1], windows.crop(windows.resize(image, plan), plan))


def test_both_looks_count_half_in_the_middle_of_it() -> None:
    plan = windows.plan((288, 512), (288, 512), WindowConfig(mode="fovea"))
    assert plan.fovea is not None
    result = windows.stitch(torch.stack([torch.zeros(1, 288, 512), torch.ones(1, 288, 512)]), plan)[0]
    rows, columns = plan.fovea.laid.slices
    inside = result[rows, columns]
    assert inside[inside.shape[0] // 2, inside.shape[1] // 2] == pytest.approx(0.5)
    assert (inside > 0).all()
    assert inside[0].max() < 0.1  # it fades out at its border
    result[rows, columns] = 0
    assert (result == 0).all()


@pytest.mark.parametrize("count", [1, 3])
def test_every_window_is_counted(count: int) -> None:
    plan = windows.plan((64, 64), (64, 64), WindowConfig(mode="fovea"))
    with pytest.raises(ValueError, match="windows"):
        windows.stitch(torch.zeros(count, 1, 64, 64), plan)


def test_the_engine_sees_far_things_larger() -> None:
    engine = AnomalyEngine.load("demo", EngineConfig(device="cpu", precision="fp32"))
    image = render_scene(500_002, SceneConfig()).image_rgb
    whole = engine.infer(image).probability
    engine.config = EngineConfig(device="cpu", precision="fp32", windows=WindowConfig(mode="fovea"))
    both = engine.infer(image).probability
    plan = windows.plan((540, 960), engine.crop_hw, engine.config.windows)
    assert plan.fovea is not None
    box = plan.fovea.seen
    rows, columns = slice(box.top - 4, box.top + box.height + 4), slice(box.left - 4, box.left + box.width + 4)
    difference = np.abs(both - whole)
    assert difference[rows, columns].max() > 0.05
    difference[rows, columns] = 0
    assert difference.max() < 1e-5
