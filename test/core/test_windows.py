import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from eomt_ext_core import windows
from eomt_ext_core.config import WindowConfig
from eomt_ext_core.errors import ImageError
from eomt_ext_core.windows import WindowPlan

CROPS = [(16, 16), (26, 26), (64, 64), (64, 96), (96, 32), (640, 640), (512, 1024)]
MODES = ["eomt", "grid"]
BLENDS = ["uniform", "hann"]


def literal_reference_starts(size: int, crop: int) -> list[int]:
    """The formula of the reference, as design and paper state it."""
    count = math.ceil(size / crop)
    overlap = count * crop - size
    share = overlap / (count - 1) if count > 1 else 0
    return [int(index * (crop - share)) for index in range(count)]


def covers(starts: list[int] | tuple[int, ...], size: int, crop: int) -> bool:
    steps = np.diff(starts)
    return starts[0] == 0 and starts[-1] + crop >= size and bool((steps <= crop).all())


def assert_sides_covered(plan: WindowPlan) -> None:
    for starts, size, crop in zip((plan.starts_y, plan.starts_x), plan.padded_hw, plan.crop_hw, strict=True):
        assert covers(starts, size, crop)
        assert starts[-1] + crop == size, "flush with the border"
        assert (np.diff(starts) > 0).all(), "no window twice"


def float_image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


sides = st.one_of(st.integers(1, 100), st.integers(1, 8000))
grid_configs = st.builds(
    WindowConfig,
    mode=st.just("grid"),
    blend=st.sampled_from(BLENDS),
    overlap=st.floats(0.0, 0.9),
    scale=st.floats(0.05, 2.0),
)
eomt_configs = st.builds(WindowConfig, mode=st.just("eomt"), blend=st.sampled_from(BLENDS))


@settings(max_examples=300, deadline=None)
@given(height=sides, width=sides, crop_hw=st.sampled_from(CROPS), config=st.one_of(eomt_configs, grid_configs))
@example(height=640, width=4481, crop_hw=(640, 640), config=WindowConfig())
@example(height=26, width=79, crop_hw=(26, 26), config=WindowConfig())
@example(height=1, width=8000, crop_hw=(640, 640), config=WindowConfig())
@example(height=8000, width=1, crop_hw=(64, 96), config=WindowConfig())
@example(height=1, width=1, crop_hw=(640, 640), config=WindowConfig(mode="grid", scale=0.05))
def test_every_pixel_of_every_image_is_covered(
    height: int, width: int, crop_hw: tuple[int, int], config: WindowConfig
) -> None:
    plan = windows.plan((height, width), crop_hw, config)
    assert_sides_covered(plan)
    assert plan.num_windows == len(plan.starts_y) * len(plan.starts_x)
    assert plan.image_hw == (height, width)
    assert all(padded >= resized >= 1 for padded, resized in zip(plan.padded_hw, plan.resized_hw, strict=True))


@settings(max_examples=400, deadline=None)
@given(size=st.integers(1, 200_000), crop=st.sampled_from([16, 26, 64, 96, 640, 1024]))
@example(size=4481, crop=640)
@example(size=79, crop=26)
def test_starts_equal_the_reference_wherever_it_covers_everything(size: int, crop: int) -> None:
    size = max(size, crop)
    plan = windows.plan((crop, size), (crop, crop), WindowConfig())
    reference = literal_reference_starts(size, crop)
    if covers(reference, size, crop):
        assert list(plan.starts_x) == reference
    else:
        assert list(plan.starts_x[:-1]) == reference[:-1]
        assert plan.starts_x[-1] == size - crop


@pytest.mark.parametrize(("height", "width", "crop"), [(640, 4481, 640), (26, 79, 26)])
def test_the_reference_leaves_a_column_of_known_sizes_uncovered(height: int, width: int, crop: int) -> None:
    assert not covers(literal_reference_starts(width, crop), width, crop)
    assert_sides_covered(windows.plan((height, width), (crop, crop), WindowConfig()))


def test_eomt_mode_resizes_short_side_and_rounds_half_to_even() -> None:
    assert windows.plan((128, 257), (64, 64), WindowConfig()).resized_hw == (64, 128)  # 128.5
    assert windows.plan((128, 259), (64, 64), WindowConfig()).resized_hw == (64, 130)  # 129.5
    assert windows.plan((1080, 1920), (640, 640), WindowConfig()).resized_hw == (640, 1138)
    plan = windows.plan((100, 100), (64, 96), WindowConfig())
    assert (plan.resized_hw, plan.starts_y, plan.starts_x) == ((96, 96), (0, 32), (0,))


def test_grid_mode_keeps_the_scale_and_the_least_overlap() -> None:
    plan = windows.plan((100, 250), (64, 64), WindowConfig(mode="grid", overlap=0.25))
    assert plan.resized_hw == plan.padded_hw == (100, 250)
    assert (plan.starts_y, plan.starts_x) == ((0, 36), (0, 46, 93, 139, 186))
    small = windows.plan((10, 200), (64, 96), WindowConfig(mode="grid", scale=0.5))
    assert (small.resized_hw, small.padded_hw, small.num_windows) == ((5, 100), (64, 100), 2)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(64, 8000), overlap=st.floats(0.0, 0.9))
def test_grid_has_the_fewest_windows_for_the_overlap(size: int, overlap: float) -> None:
    starts = windows.plan((size, 64), (64, 64), WindowConfig(mode="grid", overlap=overlap)).starts_y
    stride = max(1, math.floor(64 * (1 - overlap)))
    assert (np.diff(starts) <= stride).all()
    assert len(starts) == 1 + math.ceil((size - 64) / stride)


@settings(max_examples=200, deadline=None)
@given(
    image_hw=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    crop_hw=st.tuples(st.integers(1, 100), st.integers(1, 100)).map(lambda sides: (16 + sides[0], 16 + sides[1])),
    config=st.builds(WindowConfig, mode=st.sampled_from(MODES), scale=st.sampled_from((0.3, 1.0, 1.7))),
)
def test_windows_are_counted_as_they_are_laid(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], config: WindowConfig
) -> None:
    assert windows.count(image_hw, crop_hw, config) == windows.plan(image_hw, crop_hw, config).num_windows


@pytest.mark.parametrize("image_hw", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_without_pixels_is_refused(image_hw: tuple[int, int], mode: str) -> None:
    with pytest.raises(ImageError, match="at least one pixel") as caught:
        windows.plan(image_hw, (64, 64), WindowConfig(mode=mode))
    assert caught.value.reason == "empty"


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(
    ("image_hw", "crop_hw", "mode"),
    [
        ((26, 79), (26, 26), "eomt"),
        ((640, 4481), (640, 640), "eomt"),
        ((97, 311), (64, 96), "eomt"),
        ((311, 97), (64, 96), "eomt"),
        ((100, 250), (64, 96), "grid"),
        ((10, 250), (64, 96), "grid"),
        ((1, 1), (64, 96), "grid"),
        ((1, 1), (64, 96), "eomt"),
    ],
)
def test_stitching_gives_back_what_was_cut(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], mode: str, blend: str
) -> None:
    plan = windows.plan(image_hw, crop_hw, WindowConfig(mode=mode, blend=blend))
    image = float_image(2, *plan.padded_hw)
    cut = windows.crop(image, plan)
    assert cut.shape == (plan.num_windows, 2, *crop_hw)
    stitched = windows.stitch(cut, plan)
    height, width = plan.resized_hw
    torch.testing.assert_close(stitched, image[:, :height, :width], atol=1e-6, rtol=0)
    constant = windows.stitch(torch.full_like(cut, -7.5), plan)
    torch.testing.assert_close(constant, torch.full_like(constant, -7.5), atol=1e-5, rtol=0)
    assert windows.to_image_size(stitched, plan).shape == (2, *image_hw)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    crop_hw=st.sampled_from([(16, 16), (26, 26), (16, 48)]),
    config=st.one_of(eomt_configs, grid_configs),
)
def test_a_stitched_constant_is_that_constant(
    height: int, width: int, crop_hw: tuple[int, int], config: WindowConfig
) -> None:
    plan = windows.plan((height, width), crop_hw, config)
    assume(plan.num_windows <= 3000)  # the coverage of larger plans is tested without stitching
    stitched = windows.stitch(torch.full((plan.num_windows, 1, *crop_hw), 3.0), plan)
    torch.testing.assert_close(stitched, torch.full((1, *plan.resized_hw), 3.0), atol=1e-5, rtol=0)


def test_uniform_blend_is_the_mean_and_hann_prefers_centres() -> None:
    plan = windows.plan((16, 24), (16, 16), WindowConfig())
    assert plan.starts_x == (0, 8)
    two = torch.stack((torch.zeros(1, 16, 16), torch.ones(1, 16, 16)))
    uniform = windows.stitch(two, plan)[0, 0]
    np.testing.assert_array_equal(uniform, [0.0] * 8 + [0.5] * 8 + [1.0] * 8)
    hann = windows.stitch(two, windows.plan((16, 24), (16, 16), WindowConfig(blend="hann")))[0, 0]
    overlap = hann[8:16]
    assert (overlap.diff() > 0).all()
    assert overlap[0] > 0
    assert overlap[-1] < 1
    torch.testing.assert_close(overlap, 1 - overlap.flip(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 16, 640, 4096])
def test_hann_weights_are_positive_everywhere(side: int) -> None:
    weight = windows._side_weights(side, side, (0,), "hann", torch.float32)[0]
    assert weight.shape == (side,)
    assert (weight > 0).all()
    assert (weight.square() > 0).all(), "the product of two sides' weights is positive too"


@pytest.mark.parametrize(
    ("image_hw", "config"),
    [
        ((97, 311), WindowConfig()),
        ((50, 50), WindowConfig()),
        ((311, 97), WindowConfig()),
        ((200, 300), WindowConfig(mode="grid", scale=0.7)),
        ((90, 120), WindowConfig(mode="grid", scale=1.6)),
    ],
)
def test_resizing_is_that_of_pillow(image_hw: tuple[int, int], config: WindowConfig) -> None:
    plan = windows.plan(image_hw, (64, 64), config)
    pixels = np.random.default_rng(3).integers(0, 256, (*image_hw, 3), np.uint8)
    ours = windows.resize(torch.from_numpy(pixels).permute(2, 0, 1), plan).permute(1, 2, 0).numpy()
    pillow = np.asarray(Image.fromarray(pixels).resize(plan.resized_hw[::-1], Image.Resampling.BILINEAR))
    assert ours.dtype == np.uint8
    height, width = plan.resized_hw
    assert np.abs(ours[:height, :width].astype(int) - pillow).max() <= 1


def test_padding_repeats_the_border() -> None:
    plan = windows.plan((2, 3), (4, 4), WindowConfig(mode="grid"))
    image = torch.arange(18, dtype=torch.uint8).view(3, 2, 3)
    padded = windows.resize(image, plan)
    np.testing.assert_array_equal(padded[0], [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])


def test_two_channels_say_what_one_says() -> None:
    plan = windows.plan((97, 311), (64, 64), WindowConfig())
    logits = 8 * torch.randn(plan.num_windows, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    one = windows.to_image_size(windows.stitch(logits, plan), plan)[0].sigmoid()
    two_channels = windows.to_two_channels(logits)
    assert two_channels.shape == (plan.num_windows, 2, 64, 64)
    assert (two_channels[:, 0] == 0).all()
    two = windows.to_image_size(windows.stitch(two_channels, plan), plan).softmax(dim=0)[1]
    assert (one - two).abs().max() <= 1e-6


def test_windows_agree_with_the_reference_code(reference_folder: Path) -> None:
    stored = np.load(reference_folder / "windows.npz")
    assert len(stored["order"]) == 8
    for name in stored["order"]:
        image = torch.from_numpy(stored[f"{name}/image"])
        plan = windows.plan((image.shape[1], image.shape[2]), (64, 64), WindowConfig())
        assert plan.resized_hw == tuple(stored[f"{name}/resized_hw"]), name
        along = plan.starts_x if plan.resized_hw[1] >= plan.resized_hw[0] else plan.starts_y
        assert list(along) == stored[f"{name}/origins"][:, 1].tolist(), name
        crops = windows.crop(windows.resize(image, plan), plan)
        assert (crops.int() - torch.from_numpy(stored[f"{name}/crops"]).int()).abs().max() <= 1, name
        stitched = windows.to_image_size(windows.stitch(torch.from_numpy(stored[f"{name}/crop_logits"]), plan), plan)
        difference = (stitched - torch.from_numpy(stored[f"{name}/stitched"])).abs().max()
        # Equal to the last bit with the torch that made the reference; others round the source position differently.
        assert difference <= 2e-5, (name, difference)
