"""Procedural scenes and augmented copies as data sets, and how processes share them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from eomt_ext_training.data.anomaly_data import AnomalyData, JoinedSamples, ShareSampler
from eomt_ext_training.data.augmentation import Augmented
from eomt_ext_training.data.sample import ANOMALOUS, OUTLIER
from eomt_ext_training.data.scenes import ProceduralScenes, SemanticScenes
from eomt_ext_training.data.stored.rendered import load_scenes

from eomt_ext_core import DatasetError, windows
from eomt_ext_core.config import WindowConfig
from eomt_ext_core.scenes import SceneConfig, render_scene

CROP_HW = (64, 96)


def test_samples_are_the_scenes_of_their_seeds(tmp_path: Path) -> None:
    direct = ProceduralScenes(CROP_HW, 3, first_seed=7)
    stored = ProceduralScenes(CROP_HW, 3, first_seed=7, rendered=tmp_path)
    scene = render_scene(8, SceneConfig(size_hw=CROP_HW, obstacle_probability=0.9))
    for samples in (direct, stored):
        assert samples[1].image.permute(1, 2, 0).numpy().tobytes() == scene.image_rgb.tobytes()
        assert samples[1].labels.numpy().tobytes() == scene.labels.tobytes()
    assert direct.fingerprint() == stored.fingerprint() != ProceduralScenes(CROP_HW, 3, first_seed=8).fingerprint()
    assert direct.fingerprint() != ProceduralScenes(CROP_HW, 3, first_seed=7, obstacle_probability=0.8).fingerprint()
    with pytest.raises(DatasetError, match="at least 1"):
        ProceduralScenes(CROP_HW, 0)


def test_larger_scenes_give_one_of_the_engines_windows() -> None:
    samples = ProceduralScenes(CROP_HW, 2, first_seed=4, image_hw=(128, 320))
    scene = render_scene(5, SceneConfig(size_hw=(128, 320), obstacle_probability=0.9))
    plan = windows.plan((128, 320), CROP_HW, WindowConfig())
    image = torch.from_numpy(scene.image_rgb).permute(2, 0, 1)
    crops = windows.crop(windows.resize(image, plan), plan)
    assert plan.num_windows == 2
    sample = samples[1]
    assert sample.image.equal(crops[5 % 2])
    assert sample.labels.shape == CROP_HW
    assert set(sample.labels.unique().tolist()) <= {0, 1, 255}


def test_augmented_copies_are_the_same_each_time() -> None:
    scenes = ProceduralScenes(CROP_HW, 4)
    copies = Augmented(scenes, copies=3, seed=1)
    assert len(copies) == 12
    assert copies[3].image.equal(scenes[1].image)
    assert copies[4].image.equal(copies[4].image)
    assert not copies[4].image.equal(copies[5].image)
    mirrored = [copies[index].labels.equal(scenes[index // 3].labels.flip(1)) for index in range(12)]
    kept = [copies[index].labels.equal(scenes[index // 3].labels) for index in range(12)]
    assert all(one or other for one, other in zip(mirrored, kept, strict=True))
    assert any(mirrored)
    assert any(kept[index] for index in range(12) if index % 3)
    keys = {
        samples.fingerprint() for samples in (scenes, copies, Augmented(scenes, 3, seed=2), Augmented(scenes, 2, 1))
    }
    assert len(keys) == 4


def test_joined_data_sets_and_their_fingerprint() -> None:
    first, second = ProceduralScenes(CROP_HW, 2), ProceduralScenes(CROP_HW, 1, first_seed=9)
    joined = JoinedSamples([first, second])
    assert len(joined) == 3
    assert joined[2].key == "scene 9"
    assert joined.fingerprint() != JoinedSamples([second, first]).fingerprint()
    with pytest.raises(DatasetError, match="val data must hold at least one"):
        AnomalyData([first], [])


def test_processes_share_the_data() -> None:
    scenes = ProceduralScenes(CROP_HW, 7)
    shares = [list(ShareSampler(scenes, rank, 3)) for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [len(ShareSampler(scenes, rank, 3)) for rank in range(3)] == [3, 2, 2]


def test_semantic_samples(tmp_path: Path) -> None:
    config = SceneConfig(size_hw=CROP_HW)
    samples = SemanticScenes(load_scenes(range(2), config, tmp_path))
    scene = render_scene(1, config)
    semantic = samples[1].semantic.numpy()
    assert (scene.labels == ANOMALOUS).any()
    np.testing.assert_array_equal(semantic == OUTLIER, scene.labels == ANOMALOUS)
    np.testing.assert_array_equal(semantic[semantic != OUTLIER], scene.semantic[scene.labels != ANOMALOUS])
    np.testing.assert_array_equal(samples[1].image.permute(1, 2, 0).numpy(), scene.image_rgb)
