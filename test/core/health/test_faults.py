"""Faults that are put into drives are what they are called, from their frame on, the same each time."""

import numpy as np
import pytest

from eomt_ext_core import ConfigError
from eomt_ext_core.scenes import SceneConfig, render_scene
from eomt_ext_core.scenes.faults import FAULT_KINDS, CameraFault

IMAGE = render_scene(3, SceneConfig(size_hw=(96, 160))).image_rgb


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_begins_at_its_frame_and_comes_back_the_same(kind):
    first, second = (CameraFault(kind, 1, 3) for _ in range(2))
    assert first.put_into(IMAGE, 2) is IMAGE
    other = np.roll(IMAGE, 7, axis=1)
    with_fault = [first.put_into(image, index) for index, image in ((3, IMAGE), (4, other))]
    assert all(image.shape == IMAGE.shape and image.dtype == np.uint8 for image in with_fault)
    assert (with_fault[1] != other).any(), "the second image has it too"
    again = [second.put_into(image, index) for index, image in ((3, IMAGE), (4, other))]
    assert all((one == two).all() for one, two in zip(with_fault, again, strict=True))


def test_a_frozen_camera_gives_its_first_image_again():
    fault = CameraFault("frozen", 0, 0)
    assert (fault.put_into(IMAGE, 0) == IMAGE).all()
    assert (fault.put_into(np.zeros_like(IMAGE), 1) == IMAGE).all()


def test_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"a fault must be one of frozen, .* got 'lazy'"):
        CameraFault("lazy", 0, 0)
