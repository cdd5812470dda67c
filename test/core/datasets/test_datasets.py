import cv2
import numpy as np
import pytest

from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.datasets.labels import LabelValues
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, OBSTACLE_TRACK
from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.images import read_rgb

SCENE = "01_Street"
LOST = f"{SCENE}_000000_000010"


def build_segment_me(root, write, names=("validation_1.webp", "gravel_2.webp")):
    for name in names:
        write(root / "images" / name)
    stem = names[0].partition(".")[0]
    write(root / "labels_masks" / f"{stem}_labels_semantic.png", labels=(255, 1))
    write(root / "labels_masks" / f"{stem}_labels_semantic_color.png")


def build_anomaly_track(root, write):
    build_segment_me(root, write, ("validation0001.jpg", "zebra0000.jpg"))


def build_lost_and_found(root, write, split="test"):
    write(root / "leftImg8bit" / split / SCENE / f"{LOST}_leftImg8bit.png")
    write(root / "gtCoarse" / split / SCENE / f"{LOST}_gtCoarse_labelIds.png", labels=(1, 17))


def build_fishyscapes_laf(root, write):
    build_lost_and_found(root.parent / "dataset_LostAndFound", write, "train")
    write(root / "labels" / "val" / f"{LOST}_fishy-labels.png", labels=(0, 1))


def build_fishyscapes_laf_download(root, write):
    build_lost_and_found(root.parent / "lostandfound", write, "train")
    write(root / f"0003_{LOST}_labels.png", labels=(0, 1))


def build_fishyscapes_laf_beside_its_images(root, write):
    write(root.parent / "laf_images" / f"{LOST}_leftImg8bit.png")
    write(root / f"0003_{LOST}_labels.png", labels=(0, 1))


def build_fishyscapes_laf_original(root, write):
    write(root / "original" / f"{LOST}.png")
    write(root / "labels" / f"{LOST}.png", labels=(0, 1))
    write(root / "labels_with_ROI" / f"{LOST}.png", labels=(255, 1))


def build_fishyscapes_static_download(root, write):
    write(root / "0007_frankfurt_000000_000294_rgb.jpg")
    write(root / "0007_frankfurt_000000_000294_labels.png", labels=(0, 1))


def build_fishyscapes_static_unversioned(root, write):
    write(root / "fs_static_images" / "0007_city_rgb.png")
    write(root / "fs_val_v3" / "0007_city_labels.png", labels=(0, 1))


def build_fishyscapes_static(root, write):
    write(root / "fs_static_images_v3" / "0007_city_rgb.png")
    write(root / "fs_val_v3" / "0007_city_labels.png", labels=(0, 1))


def build_fishyscapes_static_original(root, write):
    write(root / "original" / "3.png")
    write(root / "labels" / "3.png", labels=(0, 1))


def build_road_anomaly(root, write):
    write(root / "frames" / "cow.jpg")
    write(root / "frames" / "cow.labels" / "labels_semantic.png", labels=(0, 2))


def build_road_anomaly_original(root, write):
    write(root / "original" / "cow.jpg")
    write(root / "labels" / "cow.png", labels=(0, 2))


def build_images_and_masks(root, write, values=(0, 1)):
    write(root / "images" / "7.jpg")
    write(root / "labels_masks" / "7.png", labels=values)


def build_bundle_road_anomaly(root, write):
    build_images_and_masks(root, write, (0, 2))


LAYOUTS = {
    "obstacle track": (build_segment_me, "dataset_ObstacleTrack", "RoadObstacle21", "validation_1", OBSTACLE_TRACK),
    "obstacle track, renamed": (build_segment_me, "smiyc", "RoadObstacle21", "validation_1", OBSTACLE_TRACK),
    "anomaly track": (build_anomaly_track, "dataset_AnomalyTrack", "RoadAnomaly21", "validation0001", ANOMALY_TRACK),
    "lost and found": (build_lost_and_found, "laf", "LostAndFound-test", LOST, OBSTACLE_TRACK),
    "fs laf": (build_fishyscapes_laf, "dataset_FishyLAF", "FS LaF-val", LOST, ANOMALY_TRACK),
    "fs laf, download": (build_fishyscapes_laf_download, "fishyscapes_lostandfound", "FS LaF", LOST, ANOMALY_TRACK),
    "fs laf, flat": (build_fishyscapes_laf_beside_its_images, "fs", "FS LaF", LOST, ANOMALY_TRACK),
    "fs laf, original": (build_fishyscapes_laf_original, "fishyscapes/LostAndFound", "FS LaF", LOST, ANOMALY_TRACK),
    "fs static, download": (
        build_fishyscapes_static_download,
        "fs_val_v3",
        "FS Static",
        "0007_frankfurt_000000_000294",
        ANOMALY_TRACK,
    ),
    "fs static, no version": (build_fishyscapes_static_unversioned, "fishy", "FS Static", "0007_city", ANOMALY_TRACK),
    "fs static, bundle": (build_fishyscapes_static_original, "fishyscapes/Static", "FS Static", "3", ANOMALY_TRACK),
    "fs static": (build_fishyscapes_static, "static", "FS Static", "0007_city", ANOMALY_TRACK),
    "fs static, original": (build_fishyscapes_static_original, "static", "FS Static", "3", ANOMALY_TRACK),
    "road anomaly": (build_road_anomaly, "frames_of", "RoadAnomaly", "cow", ANOMALY_TRACK),
    "road anomaly, original": (build_road_anomaly_original, "road_anomaly", "RoadAnomaly", "cow", ANOMALY_TRACK),
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
    expected = np.full((48, 64), 255 if build in (build_segment_me, build_anomaly_track) else 0)
    expected[10:30, 20:45] = 1
    np.testing.assert_array_equal(labels, expected)


def test_own_set_in_benchmark_layout_keeps_its_name(tmp_path, write_image):
    build_segment_me(tmp_path / "mine", write_image, ("street 1.png",))
    (dataset,) = open_datasets(tmp_path / "mine")
    assert (dataset.name, dataset.track, dataset.num_labelled) == ("mine", ANOMALY_TRACK, 1)


def test_fishyscapes_sets_in_one_folder_are_distinguished(tmp_path, write_image):
    build_fishyscapes_laf_original(tmp_path / "fishyscapes" / "LostAndFound", write_image)
    build_fishyscapes_static_original(tmp_path / "fishyscapes" / "Static", write_image)
    assert [dataset.name for dataset in open_datasets(tmp_path / "fishyscapes")] == ["FS LaF", "FS Static"]


def two_layouts(root, write):
    build_images_and_masks(root, write)
    build_road_anomaly(root, write)


def scenes_in_the_static_folder(root, write):
    write(root / "fs_static" / "images" / f"{LOST}.png")
    write(root / "fs_static" / "labels_masks" / f"{LOST}.png", labels=(0, 1))


def overlays_only(root, write):
    write(root / "fs_val_v2" / "0000_lindau_000000_000019_labels.png", labels=(0, 1))
    (root / "fs_val_v2" / "0000_lindau_000000_000019_rgb.npz").touch()


def another_version(root, write):
    write(root / "fs_static_images_v1" / "0007_city_rgb.png")
    write(root / "fs_val_v2" / "0007_city_labels.png", labels=(0, 1))


@pytest.mark.parametrize(
    ("build", "folder", "message"),
    [
        (
            build_anomaly_track,
            "RoadObstacle21",
            "RoadObstacle21 by .* and RoadAnomaly21 by the id",
        ),
        (build_segment_me, "dataset_AnomalyTrack", "RoadObstacle21 by the id validation_1"),
        (build_fishyscapes_laf_original, "fishyscapes/Static", "FS Static by .* and FS LaF by the names of its files"),
        (build_fishyscapes_laf_original, "LostAndFound", "it fits FS LaF and Lost & Found"),
        (build_fishyscapes_static_original, "mine", "fit FS LaF, FS Static and RoadAnomaly: name the folder"),
        (two_layouts, "mine", r"fits RoadAnomaly \(RoadAnomaly \(frames\)\) and mine \(images \+ labels_masks\)"),
        (scenes_in_the_static_folder, "bundle", "FS Static by the folder's name and FS LaF by"),
        (overlays_only, "static", r"must contain images, got overlays \(\*rgb\.npz\)"),
        (another_version, "static", "must pair up, '0007_city' has only one"),
    ],
)
def test_ambiguous_folder_is_an_error_naming_both_sets(build, folder, message, tmp_path, write_image):
    build(tmp_path / folder, write_image)
    with pytest.raises(DatasetError, match=message):
        open_datasets(tmp_path / folder)


def test_hidden_files_are_neither_images_nor_labels(tmp_path, write_image):
    build_fishyscapes_static(tmp_path, write_image)
    for file in (*tmp_path.glob("*/*_labels.png"), *tmp_path.glob("*/*_rgb.png")):
        (file.parent / f"._{file.name}").write_bytes(b"resource fork")
    assert [sample.frame_id for sample in open_datasets(tmp_path)[0].samples] == ["0007_city"]


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
        DatasetError,
        match=r"labels_masks/7\.png: .*0 \(normal\), 1 \(anomalous\), 255 \(void\), got 2: .*--label-values normal=…",
    ):
        dataset.read(dataset.samples[0])
    (given,) = open_datasets(tmp_path, label_values=LabelValues({0: 0, 255: 1}))
    with pytest.raises(DatasetError, match=r"7\.png: label values must be 0 \(normal\), 255 \(anomalous\), got 2"):
        given.read(given.samples[0])


def test_given_label_values_take_the_place_of_the_layouts(tmp_path, write_image):
    build_images_and_masks(tmp_path / "RoadAnomaly", write_image, (7, 255))
    (dataset,) = open_datasets(tmp_path, label_values=LabelValues({7: 0, 255: 1}))
    assert np.unique(dataset.read(dataset.samples[0])[1]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            (0, 255),
            r"no anomalous one in 1 label maps with the values 0 \(normal\) in 2,572 pixels, 255 \(void\) in "
            r"500 pixels: if 255 marks the anomalies, pass --label-values normal=0,anomaly=255 "
            r"\(in a training configuration label_values: \{0: 0, 255: 1\}\)",
        ),
        ((1, 255), r"no normal one in 1 label maps with the values 1 \(anomalous\) .*: add such frames"),
        ((255, 255), "no anomalous and no normal one"),
    ],
)
def test_set_without_both_kinds_is_an_error_with_fix(values, message, tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image, values)
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(DatasetError, match=message):
        dataset.check_kinds()


def test_kinds_are_found_across_files_and_broken_ones_skipped(tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image, (0, 0))
    for name in ("8", "9"):
        write_image(tmp_path / "images" / f"{name}.jpg")
    write_image(tmp_path / "labels_masks" / "8.png", labels=(7, 7))
    write_image(tmp_path / "labels_masks" / "9.png", labels=(1, 1))
    open_datasets(tmp_path)[0].check_kinds()


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
    with pytest.raises(DatasetError, match=r"a\.png: labels must be grey"):
        dataset.read(dataset.samples[0])


def test_labels_in_three_equal_channels_are_read(tmp_path, write_image):
    write_image(tmp_path / "images" / "a.png")
    path = write_image(tmp_path / "labels_masks" / "a.png", labels=(0, 1))
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_COLOR))
    (dataset,) = open_datasets(tmp_path)
    assert np.unique(dataset.read(dataset.samples[0])[1]).tolist() == [0, 1]


def no_labels(root, write):
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
        (no_labels, r"no image of the layout .* has a label, such as .*labels_masks/a\.png"),
        (no_images, "but no image"),
        (two_of_one_name, r"a\.jpg and a\.png have the same id"),
        (fishy_without_images, r"needs the image .*leftImg8bit\.png of Lost & Found: put"),
        (static_without_partner, "must pair up, '0008_city' has only one"),
        (lambda root, write: None, "no layout recognised; an evaluated folder must contain one of"),
    ],
)
def test_incomplete_folders(build, message, tmp_path, write_image):
    build(tmp_path, write_image)
    with pytest.raises(DatasetError, match=message):
        open_datasets(tmp_path)


def test_a_missing_label_costs_its_image_only(tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image)
    write_image(tmp_path / "images" / "unlabelled.png")
    (dataset,) = open_datasets(tmp_path)
    *others, unlabelled = dataset.samples
    assert others
    assert all(dataset.read(sample)[1] is not None for sample in others)
    with pytest.raises(
        DatasetError, match=r"unlabelled\.png has no label: .*labels_masks/unlabelled\.png does not exist"
    ):
        dataset.read(unlabelled)


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match="must be an existing folder"):
        open_datasets(tmp_path / "nowhere")


def test_broken_image(tmp_path, write_image):
    build_images_and_masks(tmp_path, write_image)
    (tmp_path / "images" / "7.jpg").write_bytes(b"not an image")
    (dataset,) = open_datasets(tmp_path)
    with pytest.raises(ImageError, match=r"7\.jpg: an image must be JPEG, PNG, WebP or BMP"):
        dataset.read(dataset.samples[0])


def test_the_layout_of_training_is_read_too(write_image, tmp_path):
    root = tmp_path / "street"
    for stem in "ab":
        write_image(root / "images" / f"{stem}.png")
    write_image(root / "labels" / "a.png", labels=(0, 1))
    (dataset,) = open_datasets(root)
    assert (dataset.name, dataset.layout, dataset.num_labelled) == ("street", "images + labels", 1)
    _, labels = dataset.read(dataset.samples[0])
    assert set(labels.ravel()) == {0, 1}
