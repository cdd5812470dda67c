"""The published images, rendered: no ROS in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.obstacles import Obstacle, ObstacleFrame
from eomt_ext_core.visualization import BOX_RGB, heatmap, overlay
from eomt_ext_ros.outputs import rendering as rendering_module
from eomt_ext_ros.outputs.registry import OUTPUTS
from eomt_ext_ros.outputs.rendering import Rendering, scaled_hw
from eomt_ext_ros.parameters.node_config import NodeConfig


def rendering(probability, mask=None, semantic=None, **config):
    probability = np.asarray(probability, np.float32)
    mask = probability > 0.5 if mask is None else mask
    image_rgb = np.random.default_rng(0).integers(0, 256, (*probability.shape, 3), np.uint8)
    frame = AnomalyFrame(probability, mask, semantic)
    return Rendering(image_rgb, frame, ObstacleFrame(mask, [], 0), NodeConfig(**config)), image_rgb


def test_in_the_cameras_size_everything_is_as_it_was_computed():
    probability = np.random.default_rng(1).random((24, 40), np.float32)
    semantic = np.random.default_rng(2).integers(0, 5, (24, 40), np.uint8)
    images, image_rgb = rendering(probability, semantic=semantic, colour_map="viridis", overlay_opacity=0.3)
    rendered = {output.name: output.content(images) for output in OUTPUTS if output.encoding}
    assert {output.name: output.encoding for output in OUTPUTS if output.encoding} == {
        "probability": "32FC1", "mask": "mono8", "overlay": "rgb8", "heatmap": "rgb8", "semantic": "mono8",
        "confidence": "mono8", "overlay/compressed": "jpeg", "heatmap/compressed": "jpeg",
    }  # fmt: skip
    mask = probability > 0.5
    expected = {
        "probability": probability,
        "mask": np.where(mask, 255, 0),
        "overlay": overlay(image_rgb, probability, mask, 0.3, colour_map="viridis"),
        "heatmap": heatmap(probability, "viridis"),
        "semantic": semantic,
        "confidence": np.rint(probability * 255),
    }
    for name, array in rendered.items():
        name = name.partition("/")[0]
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_frame_of_8_bits_looks_like_the_whole_one():
    probability = np.random.default_rng(1).random((24, 40), np.float32)
    whole, image_rgb = rendering(probability)
    levels = Rendering(image_rgb, AnomalyFrame(confidence=whole.confidence), None, NodeConfig())
    for name in ("confidence", "heatmap"):
        np.testing.assert_array_equal(getattr(levels, name), getattr(whole, name))


def test_smaller_probabilities_are_means_and_class_ids_stay_class_ids():
    probability = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    semantic = np.array([[1, 1, 200, 200]] * 4, np.uint8)
    images, _ = rendering(probability, semantic=semantic, publish_scale=0.5)
    assert images.scale_xy == (0.5, 0.5)
    np.testing.assert_allclose(images.probability, probability.reshape(2, 2, 2, 2).mean((1, 3)))
    np.testing.assert_array_equal(images.semantic, [[1, 200]] * 2)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 1.0), st.data())
def test_no_pixel_of_the_mask_is_lost_at_any_scale(height, width, scale, data):
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    probability = np.zeros((height, width), np.float32)
    probability[y, x] = 1
    images, _ = rendering(probability, publish_scale=scale)
    mask = images.mask
    small_hw = scaled_hw((height, width), scale)
    assert mask.shape == small_hw == images.overlay.shape[:2]
    assert mask[int(y * small_hw[0] / height), int(x * small_hw[1] / width)] == 255
    assert 1 <= np.count_nonzero(mask) <= 4
    assert set(np.unique(mask)) <= {0, 255}


def test_only_what_is_asked_for_is_rendered(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("nobody asked for this")

    for name in ("coloured", "blend", "outline"):
        monkeypatch.setattr(rendering_module, name, forbidden)
    images, _ = rendering(np.zeros((4, 4)), publish_scale=0.5)
    assert images.probability.shape == images.mask.shape == (2, 2)
    with pytest.raises(AssertionError, match="nobody asked"):
        _ = images.heatmap


def test_listed_obstacles_are_framed_in_the_overlay_at_its_scale():
    probability = np.zeros((40, 60), np.float32)
    frame = AnomalyFrame(probability, probability > 0.5)
    found = ObstacleFrame(frame.mask, [Obstacle(0.9, (20, 10, 8, 4), 32, (24.0, 12.0))], 0)
    half = Rendering(np.zeros((40, 60, 3), np.uint8), frame, found, NodeConfig(publish_scale=0.5)).overlay
    rows, columns = np.nonzero((half == BOX_RGB).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 9, 14), (
        "around rows 5 and 6, columns 10 to 13"
    )
