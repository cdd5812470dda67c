"""What changes the look of a window: textures, outlines, surfaces, light, style and camera."""

import cv2
import numpy as np
import pytest
from eomt_ext_training.built_in.looks.ground import fading, horizon_of, laid_flat, patches
from eomt_ext_training.built_in.looks.light import Lighting, relit
from eomt_ext_training.built_in.looks.sensor import Sensor, photographed
from eomt_ext_training.built_in.looks.silhouettes import silhouette
from eomt_ext_training.built_in.looks.style import randomly_convolved, with_amplitudes_of
from eomt_ext_training.built_in.looks.surfaces import Surfaces, resurfaced
from eomt_ext_training.built_in.looks.textures import TextureBank, Textures, dead_leaves
from numpy.typing import NDArray

from eomt_ext_core import ConfigError
from eomt_ext_core.scenes import SEMANTIC_CLASSES, SceneConfig, render_scene

Image = NDArray[np.uint8]
ROAD, SKY, CAR = (SEMANTIC_CLASSES.index(name) for name in ("road", "sky", "car"))
NEVER = Lighting(foliage_shadow=0, wall_shadow=0, wet=0, glare=0, haze=0)


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(Textures(count=12, size=64))


@pytest.fixture(scope="module")
def street() -> tuple[Image, Image]:
    scene = render_scene(12, SceneConfig(size_hw=(144, 256), obstacle_probability=0.0))
    return scene.image_rgb, scene.semantic


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_textures_follow_from_the_seed_and_differ() -> None:
    one, same, other = (TextureBank(Textures(count=6, size=64, seed=seed)) for seed in (1, 1, 2))
    patch = one.patch(rng(), (40, 90))
    assert patch.shape == (40, 90, 3)
    assert (patch == same.patch(rng(), (40, 90))).all()
    assert (patch != other.patch(rng(), (40, 90))).any()
    assert all(tile.std() > 1 for tile in (one.tile(rng(seed)) for seed in range(20)))


def test_foliage_is_green_on_the_whole(bank: TextureBank) -> None:
    patches = np.stack([bank.patch(rng(seed), (32, 32), "foliage") for seed in range(20)]).mean((0, 1, 2))
    assert patches[1] > patches[0] > patches[2]


def test_leaves_of_all_sizes_lie_in_an_image() -> None:
    image = dead_leaves(rng(3), 128, [(250.0, 0.0, 0.0), (0.0, 0.0, 250.0)], 300)
    red = (image[..., 0] > image[..., 2]).astype(np.uint8)
    areas = cv2.connectedComponentsWithStats(red)[2][1:, cv2.CC_STAT_AREA]
    assert areas.min() < 30 < 500 < areas.max()


def test_outlines_are_cut_to_the_thing_and_vary() -> None:
    shapes = [silhouette(rng(seed)) for seed in range(60)]
    for shape in shapes:
        solid = shape > 127
        assert solid[-1].any()
        assert solid[0].any()
        assert solid[:, 0].any()
        assert solid[:, -1].any()
    filled = np.array([(shape > 127).mean() for shape in shapes])
    assert filled.min() < 0.4 < 0.8 < filled.max()


def test_a_texture_on_the_ground_grows_towards_the_camera() -> None:
    tile = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8) * 255
    laid = laid_flat(tile, (144, 256), 50.0, 40.0, rng(1)).astype(int)
    assert laid.shape == (144, 256)
    far, near = (np.count_nonzero(np.abs(np.diff(laid[row])) > 40) for row in (75, 140))
    assert far > 1.5 * near > 0
    weight = fading((144, 256), 50.0)
    assert weight[50, 0] == 0
    assert weight[143, 0] == 1
    assert (np.diff(weight[50:, 0]) >= 0).all()


def test_patches_cover_about_as_much_as_they_should() -> None:
    covered = [patches(rng(seed), (144, 256), 50.0, 0.3, 2.0)[60:].mean() for seed in range(30)]
    assert np.mean(covered) == pytest.approx(0.3, abs=0.06)


def test_surfaces_change_only_what_is_known(bank: TextureBank, street: tuple[Image, Image]) -> None:
    image, semantic = street
    semantic = semantic.copy()
    semantic[60:80, 100:140] = 254
    always = Surfaces(ground=1.0, standing=1.0, patches=1.0, tone=1.0)
    changed = resurfaced(image, semantic, bank, always, rng(2))
    difference = np.abs(changed.astype(int) - image).mean(2)
    assert difference[semantic == ROAD].mean() > 3
    assert difference[semantic == 254].max() == 0
    untouched = resurfaced(image, semantic, bank, Surfaces(ground=0, standing=0, patches=0, tone=0), rng(2))
    assert (untouched == image).all()


@pytest.mark.parametrize("name", ["foliage_shadow", "wall_shadow"])
def test_shadows_darken_the_ground_and_leave_the_sky(name: str, street: tuple[Image, Image]) -> None:
    image, semantic = street
    results = [relit(image, semantic, Lighting(**{**vars(NEVER), name: 1.0}), rng(seed)) for seed in range(8)]
    road = np.array([result[semantic == ROAD].mean() for result in results])
    assert road.max() <= image[semantic == ROAD].mean() + 0.5
    assert road.mean() < 0.93 * image[semantic == ROAD].mean()
    above = semantic == SKY
    above[int(horizon_of(semantic)) :] = False
    assert all((result[above] == image[above]).all() for result in results)


@pytest.mark.parametrize("name", ["wet", "glare", "haze"])
def test_other_light_changes_the_image(name: str, street: tuple[Image, Image]) -> None:
    image, semantic = street
    assert (relit(image, semantic, NEVER, rng()) == image).all()
    changed = relit(image, semantic, Lighting(**{**vars(NEVER), name: 1.0}), rng())
    assert np.abs(changed.astype(int) - image).mean() > 1


def test_a_random_convolution_keeps_mean_deviation_and_edges(street: tuple[Image, Image]) -> None:
    image = street[0]
    for seed in range(6):
        changed = randomly_convolved(image, rng(seed))
        assert np.abs(changed.mean((0, 1)) - image.mean((0, 1))).max() < 25
        assert 0.4 < changed.std() / image.std() < 1.6
        assert np.abs(changed.astype(int) - image).mean() > 1


def test_amplitudes_of_another_image_keep_the_phases(street: tuple[Image, Image]) -> None:
    image = street[0]
    same = with_amplitudes_of(image, image, rng())
    assert np.abs(same.astype(int) - image).max() <= 1
    other = np.full_like(image, 200)
    brighter = with_amplitudes_of(image, other, rng(5))
    assert abs(brighter.mean() - 200) < abs(image.mean() - 200)
    assert np.corrcoef(brighter.ravel(), image.ravel())[0, 1] > 0.5


def test_cameras_vary_as_much_as_they_are_told(street: tuple[Image, Image]) -> None:
    image = street[0]
    perfect = Sensor(*(0.0 for _ in vars(Sensor())))
    assert (photographed(image, perfect, rng()) == image).all()
    taken = [photographed(image, Sensor(), rng(seed)) for seed in range(20)]
    assert np.std([picture.mean() for picture in taken]) > 10
    grey = photographed(image, Sensor(grey=1.0, tint=0.0, noise=0.0, jpeg=0.0), rng(1))
    assert np.abs(grey[..., 0].astype(int) - grey[..., 2]).max() <= 1


def test_probabilities_are_held_to_their_range() -> None:
    for bad in (lambda: Surfaces(ground=1.5), lambda: Lighting(wet=-0.1), lambda: Sensor(jpeg=2.0)):
        with pytest.raises(ConfigError):
            bad()
