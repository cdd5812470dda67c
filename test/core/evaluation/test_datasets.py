import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.evaluation import ANOMALY_TRACK, OBSTACLE_TRACK
from eomt_ext_core.evaluation.datasets import open_datasets
from eomt_ext_core.images import read_rgb

SCENE = "01_Street"
LOST = f"{SCENE}_000000_000010"


def build_segment_me(root, write):
    for name, suffix in (("validation_1", ".webp"), ("gravel_2", ".webp")):
        write(root / "images" / f"{name}{suffix}")
    write(root / "labels_masks" / "validation_1_labels_semantic.png", labels=(255, 1))
    write(root / "labels_masks" / "validation_1_labels_semantic_color.png")


def build_lost_and_found(root, write, split="test"):
    write(root / "leftImg8bit" / split / SCENE / f"{LOST}_leftImg8bit.png")
    write(root / "gtCoarse" / split / SCENE / f"{LOST}_gtCoarse_labelIds.png", labels=(1, 17))


def build_fishyscapes_laf(root, write):
    build_lost_and_found(root.parent / "dataset_LostAndFound", write, "train")
    write(root / "labels" / "val" / f"{LOST}_fishy-labels.png", labels=(0, 1))


def build_fishyscapes_static(root, write):
    write(root / "fs_static_images_v3" / "0007_city_rgb.png")
    write(root / "fs_val_v3" / "0007_city_labels.png", labels=(0, 1))


def build_fishyscapes_static_original(root, write):
    write(root / "original" / "3.png")
    write(root / "labels" / "3.png", labels=(0, 1))


def build_road_anomaly(root, write):
    write(root / "frames" / "cow.jpg")
    write(root / "frames" / "cow.labels" / "labels_semantic.png", labels=(0, 2))


def build_images_and_masks(root, write, values=(0, 1)):
    write(root / "images" / "7.jpg")
    write(root / "labels_masks" / "7.png", labels=values)


def build_bundle_road_anomaly(root, write):
    build_images_and_masks(root, write, (0, 2))


LAYOUTS = {
    "obstacle track": (build_segment_me, "dataset_ObstacleTrack", "RoadObstacle21", "validation_1", OBSTACLE_TRACK),
    "anomaly track": (build_segment_me, "dataset_AnomalyTrack", "RoadAnomaly21", "validation_1", ANOMALY_TRACK),
    "lost and found": (build_lost_and_found, "laf", "LostAndFound-test", LOST, OBSTACLE_TRACK),
    "fs laf": (build_fishyscapes_laf, "dataset_FishyLAF", "FS LaF-val", LOST, ANOMALY_TRACK),
    "fs static": (build_fishyscapes_static, "static", "FS Static", "0007_city", ANOMALY_TRACK),
    "fs static, original": (build_fishyscapes_static_original, "static", "FS Static", "3", ANOMALY_TRACK),
    "road anomaly": (build_road_anomaly, "frames_of", "RoadAnomaly", "cow", ANOMALY_TRACK),
    "plain": (build_images_and_masks, "mine", "mine", "7", ANOMALY_TRACK),
    "bundle, RoadAnomaly": (build_bundle_road_anomaly, "RoadAnomaly", "RoadAnomaly", "7", ANOMALY_TRACK),
    "bundle, RoadAnomaly21": (build_bundle_road_anomaly, "RoadAnomaly21", "RoadAnomaly21", "7", ANOMALY_TRACK),
    "bundle, RoadObsticle21": (build_images_and_masks, "RoadObsticle21", "RoadObstacle21", "7", OBSTACLE_TRACK),
    "bundle, FS LaF": (build_images_and_masks, "FS_LostFound_full", "FS LaF", "7", ANOMALY_TRACK),
    "bundle, FS Static": (build_images_and_masks, "fs_static", "FS Static", "7", ANOMALY_TRACK),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_recognised_and_read(layout, tmp_path, write_image):
    build, folder, name, frame_id, track = LAYOUTS[layout]
    build(tmp_path / folder, write_image)
    (dataset,) = open_datasets(tmp_path / folder)
    sample = next(sample for sample in dataset.samples if sample.frame_id == frame_id)
    image, labels = dataset.read(sample)
    assert (dataset.name, dataset.track) == (name, track)
    assert image.shape == (48, 64, 3)
    assert dataset.num_labelled == 1
    expected = np.full((48, 64), 255 if build is build_segment_me else 0)
    expected[10:30, 20:45] = 1
    np.testing.assert_array_equal(labels, expected)


def test_bundle_gives_every_folder_in_order(tmp_path, write_image):
    for name in ("fs_static", "RoadObsticle21"):
        build_images_and_masks(tmp_path / name, write_image)
    (tmp_path / "notes").mkdir()
    assert [dataset.name for dataset in open_datasets(tmp_path)] == ["RoadObstacle21", "FS Static"]


def test_splits(tmp_path, write_image):
    build_lost_and_found(tmp_path, write_image, "train")
    build_lost_and_found(tmp_path, write_image, "test")
    assert [dataset.name for dataset in open_datasets(tmp_path)] == ["LostAndFound-test", "LostAndFound-train"]
    assert [dataset.name for dataset in open_datasets(tmp_path, "train")] == ["LostAndFound-train"]
    with pytest.raises(DatasetError, match="no layout recognised with the split 'val'"):
        open_datasets(tmp_path, "val")


def test_withheld_labels_of_the_benchmark_are_no_error(tmp_path, write_image):
    build_segment_me(tmp_path, write_image)
    (dataset,) = open_datasets(tmp_path)
    assert [(sample.frame_id, sample.label_path is None) for sample in dataset.samples] == [
        ("gravel_2", True),
        ("validation_1", False),
    ]
    assert dataset.read(dataset.samples[0])[1] is None
    assert [sample.frame_id for sample in open_datasets(tmp_path, "validation")[0].samples] == ["validation_1"]


def test_images_keep_their_colours(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 5, 3), (10, 20, 200), np.uint8))
    assert read_rgb(tmp_path / "red.png")[0, 0].tolist() == [200, 20, 10]


def test_unknown_label_value_names_file_and_value(tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image, (0, 2))
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(
        DatasetError, match=r"labels_masks/7\.png: .*0 \(normal\), 1 \(anomalous\), 255 \(void\), got 2$"
    ):
        dataset.read(dataset.samples[0])


def test_road_anomaly_may_not_mix_both_ways_of_marking(tmp_path, write_image):
    build_images_and_masks(tmp_path / "RoadAnomaly", write_image, (1, 2))
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(DatasetError, match=r"2 \(anomalous\).* or .*1 \(anomalous\).*got 1, 2"):
        dataset.read(dataset.samples[0])


def test_other_size_names_both(tmp_path, write_image):
    write_image(tmp_path / "images" / "a.png", (48, 64))
    write_image(tmp_path / "labels_masks" / "a.png", (40, 64), labels=(0, 1))
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(DatasetError, match=r"images/a\.png is 64×48 and .*labels_masks/a\.png is 64×40"):
        dataset.read(dataset.samples[0])


def test_coloured_labels_are_refused(tmp_path, write_image):
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "labels_masks" / "a.png")
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(DatasetError, match=r"a\.png: labels must be grey values"):
        dataset.read(dataset.samples[0])


def test_labels_in_three_equal_channels_are_read(tmp_path, write_image):
    write_image(tmp_path / "images" / "a.png")
    path = write_image(tmp_path / "labels_masks" / "a.png", labels=(0, 1))
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_COLOR))
    (dataset,) = open_datasets(tmp_path)
    assert np.unique(dataset.read(dataset.samples[0])[1]).tolist() == [0, 1]


def missing_label(root, write):
    write(root / "images" / "a.png")
    (root / "labels_masks").mkdir()


def no_images(root, write):
    (root / "images").mkdir()
    (root / "labels_masks").mkdir()


def two_of_one_name(root, write):
    write(root / "images" / "a.png")
    write(root / "images" / "a.jpg")
    write(root / "labels_masks" / "a.png", labels=(0, 1))


def fishy_without_images(root, write):
    write(root / "FishyLAF" / "labels" / "val" / f"{LOST}_fishy-labels.png", labels=(0, 1))


def static_without_partner(root, write):
    build_fishyscapes_static(root, write)
    write(root / "fs_val_v3" / "0008_city_labels.png", labels=(0, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (missing_label, r"images/a\.png has no label, .*labels_masks/a\.png is not there"),
        (no_images, "holds no image"),
        (two_of_one_name, r"a\.jpg and a\.png have one id"),
        (fishy_without_images, r"needs the image .*leftImg8bit\.png of Lost & Found: put"),
        (static_without_partner, "must pair up, '0008_city' has only one"),
        (lambda root, write: None, "no layout recognised; a folder evaluated must hold one of"),
    ],
)
def test_incomplete_folders(build, message, tmp_path, write_image):
    build(tmp_path, write_image)
    with pytest.raises(DatasetError, match=message):
        open_datasets(tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        open_datasets(tmp_path / "nowhere")


def test_broken_image(tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image)
    (tmp_path / "images" / "7.jpg").write_bytes(b"not an image")
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(ImageError, match=r"7\.jpg: an image must be JPEG, PNG, WebP or BMP"):
        dataset.read(dataset.samples[0])
