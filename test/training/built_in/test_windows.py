"""What is in a window: its view of the scene, unknown things and hedges, and the data set of them."""

import numpy as np
import pytest
from eomt_ext_training.built_in.looks.background import Background, with_clutter, with_hedges
from eomt_ext_training.built_in.looks.bonnet import Bonnet, with_bonnet
from eomt_ext_training.built_in.looks.textures import TextureBank, Textures
from eomt_ext_training.built_in.looks.things import Things, with_things
from eomt_ext_training.built_in.looks.view import Zoom, zoomed
from eomt_ext_training.built_in.randomised import Randomisation, RandomisedScenes
from eomt_ext_training.data.sample import ANOMALOUS, OUTLIER, VOID
from eomt_ext_training.data.stored.rendered import SceneSet

from eomt_ext_core import DatasetError
from eomt_ext_core.scenes import SEMANTIC_CLASSES, SceneConfig, render_scene

CROP_HW = (96, 160)
RANDOM = Randomisation(textures=Textures(count=6, size=64))
VEGETATION, ROAD, CAR = (SEMANTIC_CLASSES.index(name) for name in ("vegetation", "road", "car"))


@pytest.fixture(scope="module")
def scenes() -> SceneSet:
    drawn = [render_scene(seed, SceneConfig(size_hw=(180, 320), obstacle_probability=1.0)) for seed in range(3)]
    return SceneSet(
        *(np.stack(parts) for parts in zip(*((s.image_rgb, s.labels, s.semantic) for s in drawn), strict=True))
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_whole_scene_is_shown_as_the_engine_would(scenes: SceneSet) -> None:
    image, semantic = scenes.images_rgb[0], scenes.semantic[0]
    zoom = Zoom(whole=1.0, waviness=0.0)
    views = [zoomed(image, semantic, (90, 160), zoom, rng(seed)) for seed in range(6)]
    as_drawn = [view for view in views if (view[0] == views[0][0]).all()]
    mirrored = [view for view in views if (view[0][:, ::-1] == views[0][0]).all()]
    assert as_drawn
    assert mirrored
    assert len(as_drawn) + len(mirrored) == 6
    assert all((view[1][:, ::-1] == views[0][1]).all() for view in mirrored)


def test_image_and_classes_stay_together_in_every_view(scenes: SceneSet) -> None:
    semantic = scenes.semantic[1]
    painted = np.repeat((semantic * 20)[..., None], 3, 2)
    for seed in range(12):
        image, classes = zoomed(painted, semantic, CROP_HW, Zoom(whole=0.0), rng(seed))
        assert image.shape == (*CROP_HW, 3)
        assert classes.shape == CROP_HW
        known = classes != VOID
        assert (np.abs(image[known][:, 0].astype(int) - classes[known] * 20) < 20).mean() > 0.9


def test_beyond_the_scene_there_is_void_only_in_wide_views(scenes: SceneSet) -> None:
    whole = np.zeros_like(scenes.semantic[0])
    void = [
        (zoomed(scenes.images_rgb[0], whole, (90, 160), zoom, rng(seed))[1] == VOID).mean()
        for zoom in (Zoom(0.5, 1.0, 0.0, 0.0, 0.0, 0.0), Zoom(1.0, 2.0, 0.0, 0.0, 0.0, 0.0))
        for seed in range(20)
    ]
    assert max(void[:20]) > 0.3
    assert max(void[20:]) == 0


def test_things_are_outliers_of_every_size_with_a_void_edge(scenes: SceneSet) -> None:
    bank = TextureBank(RANDOM.textures)
    image, semantic = scenes.images_rgb[2], np.where(scenes.labels[2], VOID, scenes.semantic[2])
    areas = []
    for seed in range(40):
        changed, classes = with_things(image, semantic, lambda: image, bank, Things(1.0, most=1), rng(seed))
        outlier, void = classes == OUTLIER, (classes == VOID) & (semantic != VOID)
        kept = ~outlier & ~void
        assert (classes[kept] == semantic[kept]).all()
        areas.append(outlier.sum())
        if outlier.any():
            assert void.any()
            assert np.abs(changed[outlier].astype(int) - image[outlier]).mean() > 0
    assert min(areas) < 60 < 4000 < max(areas)
    assert (semantic == np.where(scenes.labels[2], VOID, scenes.semantic[2])).all()  # not changed in place


def test_no_ground_no_things(scenes: SceneSet) -> None:
    nothing = np.full(scenes.semantic.shape[1:], VOID, np.uint8)
    bank = TextureBank(RANDOM.textures)
    changed, classes = with_things(
        scenes.images_rgb[0], nothing, lambda: scenes.images_rgb[1], bank, Things(1.0), rng()
    )
    assert (classes == VOID).all()
    assert (changed == scenes.images_rgb[0]).all()


def test_hedges_are_known_and_leave_road_and_obstacles(scenes: SceneSet) -> None:
    bank = TextureBank(RANDOM.textures)
    semantic = np.where(scenes.labels[0] == ANOMALOUS, np.uint8(OUTLIER), scenes.semantic[0])
    results = [
        with_hedges(scenes.images_rgb[0], semantic, bank, Background(hedges=1.0), rng(seed)) for seed in range(10)
    ]
    grown = [np.count_nonzero(classes == VEGETATION) for _, classes in results]
    assert max(grown) > 1.1 * np.count_nonzero(semantic == VEGETATION)
    kept = np.isin(semantic, (ROAD, OUTLIER, VOID))
    assert all((classes[kept] == semantic[kept]).all() for _, classes in results)
    assert all((image[kept] == scenes.images_rgb[0][kept]).all() for image, _ in results)


def test_clutter_stays_behind_and_changes_no_class(scenes: SceneSet) -> None:
    bank, image = TextureBank(RANDOM.textures), scenes.images_rgb[0]
    semantic = np.where(scenes.labels[0] == ANOMALOUS, np.uint8(OUTLIER), scenes.semantic[0])
    behind = np.isin(semantic, [SEMANTIC_CLASSES.index(name) for name in ("vegetation", "building", "fence", "sky")])
    results = [with_clutter(image, semantic, bank, Background(clutter=1.0), rng(seed)) for seed in range(10)]
    assert all((result[~behind] == image[~behind]).all() for result in results)
    assert sum((result != image).any() for result in results) == 10


def test_the_own_vehicle_is_a_car_at_the_lower_border(scenes: SceneSet) -> None:
    image, semantic = scenes.images_rgb[0], scenes.semantic[0]
    for seed in range(10):
        changed, classes = with_bonnet(image, semantic, Bonnet(probability=1.0, highest=0.3), rng(seed))
        own = (changed != image).any(2)
        assert (classes[-1] == CAR).any()
        assert not own[: int(0.6 * len(own))].any()
        marked = classes != semantic
        assert (classes[marked] == CAR).all()
        assert own[marked].mean() > 0.99  # where the paint is not by chance of the colour that was there
    same, classes = with_bonnet(image, semantic, Bonnet(probability=0.0), rng())
    assert same is image
    assert classes is semantic


def test_waviness_bends_edges_and_their_labels_alike(scenes: SceneSet) -> None:
    semantic = np.zeros(scenes.semantic.shape[1:], np.uint8)
    semantic[100:] = 9
    painted = np.repeat((semantic * 20)[..., None], 3, 2)
    straight = Zoom(whole=1.0, waviness=0.0)
    bent = Zoom(whole=1.0, waviness=0.1)
    heights = {}
    for zoom in (straight, bent):
        views = [zoomed(painted, semantic, (180, 320), zoom, rng(seed)) for seed in range(8)]
        assert all((np.abs(image[..., 0].astype(int) - classes * 20) < 90)[classes != VOID].mean() > 0.99
                   for image, classes in views)  # fmt: skip
        heights[zoom] = max(np.ptp((classes == 9).sum(0)) for _, classes in views)
    assert heights[straight] == 0
    assert heights[bent] > 5


def test_items_are_fixed_and_all_different(scenes: SceneSet) -> None:
    one, same = (RandomisedScenes([scenes], CROP_HW, 6, RANDOM, seed=4) for _ in range(2))
    assert len(one) == 6
    for index in (5, 0):
        first, again = one[index], same[index]
        assert (first.image == again.image).all()
        assert (first.semantic == again.semantic).all()
        assert first.image.shape == (3, *CROP_HW)
        assert first.semantic.shape == CROP_HW
    assert (one[0].image != one[1].image).any()
    assert (one[0].image != RandomisedScenes([scenes], CROP_HW, 6, RANDOM, seed=5)[0].image).any()
    assert set(np.unique(one[0].semantic)) <= {*range(len(SEMANTIC_CLASSES)), OUTLIER, VOID}


def test_there_must_be_scenes_and_items(scenes: SceneSet) -> None:
    for sets, count in (([], 3), ([scenes], 0)):
        with pytest.raises(DatasetError, match="must be scenes and items"):
            RandomisedScenes(sets, CROP_HW, count, RANDOM)
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        RandomisedScenes([scenes], CROP_HW, 3, RANDOM)[3]
