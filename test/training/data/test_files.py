import logging
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from eomt_ext_training.data.labelled_folder import LabelledFolder, LabelledImages
from eomt_ext_training.data.road_scenes import CITYSCAPES_CLASSES, CamVid, Cityscapes, SemanticViews
from eomt_ext_training.data.views import Augmentation
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import LabelValues
from eomt_ext_core.errors import ConfigError, DatasetError

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
LABELS = np.zeros((20, 30), np.uint8)
BOTH_KINDS = np.zeros((20, 30), np.uint8)
BOTH_KINDS[5:10] = 1


def write(path: Path, array: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return path


def pairs(root: Path, count: int, labels: NDArray[np.uint8] = LABELS) -> Path:
    for index in range(count):
        write(root / "images" / f"{index}.png", PICTURE)
        write(root / "labels" / f"{index}.png", labels)
    return root


def test_label_values_mean_what_is_said(tmp_path: Path) -> None:
    stored = np.array([[0, 2], [7, 255]], np.uint8)
    write(tmp_path / "images" / "a.png", PICTURE[:2, :2])
    write(tmp_path / "labels" / "a.png", stored)
    folder = LabelledImages(tmp_path, LabelValues({0: 0, 2: 1, 7: 255, 255: 255}))
    image, labels = folder.read(0)
    np.testing.assert_array_equal(image, PICTURE[:2, :2])
    assert labels.tolist() == [[0, 1], [255, 255]]
    assert (len(folder), folder.key(0), folder.skipped) == (1, "a", ())


def test_foreign_label_values_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, 2, np.full((20, 30), 2, np.uint8))
    with pytest.raises(DatasetError, match=r"all 2 are broken, the first: .*0\.png.* got 2"):
        LabelledImages(tmp_path)
    with pytest.raises(ConfigError, match=r"label values must map to 0, 1 or 255, got \{2: 3\}"):
        LabelledFolder(str(tmp_path), (16, 16), label_values={2: 3})


def test_folder_without_anomalies_is_an_error_with_fix(tmp_path: Path) -> None:
    root = str(pairs(tmp_path, 2, 255 * BOTH_KINDS))
    with pytest.raises(DatasetError, match=r"no anomalous one in 2 label maps with the values 0 .*, 255 \(void\)"):
        LabelledFolder(root, (16, 16))
    assert 1 in LabelledFolder(root, (16, 16), label_values={0: 0, 255: 1})[0].labels
    assert 1 not in LabelledFolder(root, (16, 16), label_values={0: 0, 255: 255})[0].labels  # it is meant so


def test_label_values_apply_to_benchmark_layouts(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", PICTURE)
    write(tmp_path / "labels_masks" / "a.png", 255 * BOTH_KINDS)
    assert LabelledImages(tmp_path, LabelValues({0: 0, 255: 1})).read(0)[1].tolist() == BOTH_KINDS.tolist()
    with pytest.raises(DatasetError, match="no anomalous one"):
        LabelledImages(tmp_path).check_kinds()


def test_broken_files_are_named_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs(tmp_path, 3)
    write(tmp_path / "images" / "alone.png", PICTURE)
    write(tmp_path / "images" / "other size.png", PICTURE)
    write(tmp_path / "labels" / "other size.png", LABELS[:5])
    (tmp_path / "images" / "1.png").write_bytes((tmp_path / "images" / "1.png").read_bytes()[:40])
    (tmp_path / "labels" / "2.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        folder = LabelledImages(tmp_path)
    assert [folder.key(index) for index in range(len(folder))] == ["0"]
    assert len(folder.skipped) == 4
    for name in ("1.png", "2.png", "alone.png", "other size.png"):
        assert any(name in line for line in folder.skipped), name
        assert name in caplog.text
    assert "skipped 3 of 4" in caplog.text  # and 1 of 5 without labels
    assert "skipped 1 of 5" in caplog.text


def jpeg_that_breaks_off(path: Path) -> None:
    assert cv2.imwrite(str(path), PICTURE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert cv2.imread(str(path)) is not None, "OpenCV takes it, so that something else must refuse it"


@pytest.mark.parametrize("kind", [LabelledImages, CamVid])
def test_jpeg_files_that_break_off_are_skipped(kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "images").mkdir()
    for name in ("half", "whole"):
        write(tmp_path / "labels" / f"{name}.png", LABELS)
    jpeg_that_breaks_off(tmp_path / "images" / "half.jpg")
    write(tmp_path / "images" / "whole.jpg", PICTURE)
    with caplog.at_level(logging.WARNING):
        folder = kind(str(tmp_path))
    assert len(folder) == len(folder.skipped) == 1
    assert "half.jpg: a JPEG image must go from its header to an end marker, got" in folder.skipped[0]
    assert "skipped 1 of 2" in caplog.text


@pytest.mark.parametrize("kind", [LabelledImages, CamVid])
def test_files_as_people_have_them(kind: Any, tmp_path: Path) -> None:
    pairs(tmp_path, 1, np.eye(20, 30, dtype=np.uint8))
    name = os.fsdecode(b"caf\xe9")
    for folder in ("images", "labels"):
        (tmp_path / folder / "0.png").rename(tmp_path / folder / f"{name}.png")
        (tmp_path / folder / "._0.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / folder / "huge.png").write_bytes(
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
            + (60_000).to_bytes(4, "big") * 2
            + b"\x08\2\0\0\0"
            + bytes(8)
            + b"IEND"
            + bytes(4)
        )
    (tmp_path / "images" / "folder.png").mkdir()
    found = kind(str(tmp_path))
    assert len(found) == len(found.skipped) == 1
    assert "huge.png: an image must have between 1 and" in found.skipped[0]
    np.testing.assert_array_equal(found.read(0)[0], PICTURE)
    data = LabelledFolder(str(tmp_path), (20, 30)) if kind is LabelledImages else found
    assert data.fingerprint() == data.fingerprint()


def test_an_empty_set_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DatasetError, match=r"has the layout 'images \+ labels', but no image"):
        LabelledImages(tmp_path)
    with pytest.raises(DatasetError, match="must hold at least one image with labels, none were found"):
        CamVid(str(tmp_path))
    with pytest.raises(DatasetError, match="must be an existing folder"):
        LabelledImages(tmp_path / "nowhere")


def test_layouts_of_the_benchmarks_are_read(tmp_path: Path) -> None:
    write(tmp_path / "images" / "validation0.png", PICTURE)
    write(tmp_path / "labels_masks" / "validation0_labels_semantic.png", LABELS + 1)
    write(tmp_path / "images" / "test1.png", PICTURE)
    folder = LabelledImages(tmp_path)
    assert len(folder) == 1
    assert (folder.read(0)[1] == 1).all()
    assert "test1.png: has no labels" in folder.skipped[0]


def test_crops_of_a_folder(tmp_path: Path) -> None:
    labels = np.repeat(np.array([0, 1, 255], np.uint8), 10)[None].repeat(20, axis=0)
    data = LabelledFolder(str(pairs(tmp_path, 2, labels)), (20, 10), views_per_image=3)
    assert len(data) == 6
    samples = [data[index] for index in range(6)]
    for number, label in enumerate((0, 1, 255)):  # evenly spaced along the width: one third each
        sample = samples[2 * number]
        assert sample.key == f"0#{number}"
        assert sample.image.shape == (3, 20, 10)
        assert sample.image.dtype == sample.labels.dtype == torch.uint8
        assert (sample.labels == label).all()
        expected = PICTURE[:, 10 * number : 10 * number + 10].transpose(2, 0, 1)
        np.testing.assert_array_equal(sample.image.numpy(), expected)
    with pytest.raises(IndexError):
        data[6]


def test_items_are_fixed_by_view_and_seed(tmp_path: Path) -> None:
    root = str(pairs(tmp_path, 1, BOTH_KINDS))
    data = LabelledFolder(root, (16, 16), views_per_image=2, augmentation=Augmentation(), seed=1)
    assert torch.equal(data[0].image, data[0].image)
    assert not torch.equal(data[0].image, data[1].image)
    other = LabelledFolder(root, (16, 16), views_per_image=2, augmentation=Augmentation(), seed=2)
    assert not torch.equal(data[0].image, other[0].image)


def test_a_fingerprint_changes_with_whatever_may_change_an_item(tmp_path: Path) -> None:
    root = str(pairs(tmp_path, 1, BOTH_KINDS))
    first = LabelledFolder(root, (16, 16)).fingerprint()
    assert LabelledFolder(root, (16, 16)).fingerprint() == first
    others = [
        LabelledFolder(root, (16, 32)),
        LabelledFolder(root, (16, 16), views_per_image=2),
        LabelledFolder(root, (16, 16), augmentation=Augmentation()),
        LabelledFolder(root, (16, 16), label_values={0: 0, 1: 0}),
        LabelledFolder(root, (16, 16), seed=3),
    ]
    write(tmp_path / "images" / "0.png", PICTURE[:, ::-1].copy() // 2)
    others.append(LabelledFolder(root, (16, 16)))
    assert len({first, *(data.fingerprint() for data in others)}) == 7


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    stored = np.array([[7, 8, 33, 0], [26, 29, 24, 1]], np.uint8)
    write(tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_1_2_leftImg8bit.png", PICTURE[:2, :4])
    write(tmp_path / "gtFine" / "val" / "ulm" / "ulm_1_2_gtFine_labelIds.png", stored)
    scenes = Cityscapes(str(tmp_path), "val")
    assert (len(scenes), scenes.pairs[0].key, len(scenes.class_names)) == (1, "ulm_1_2", 19)
    classes = scenes.read(0)[1]
    assert classes.tolist() == [[0, 1, 18, 255], [13, 255, 11, 255]]
    names = [CITYSCAPES_CLASSES[index] for index in (0, 1, 18, 13, 11)]
    assert names == ["road", "sidewalk", "bicycle", "car", "person"]
    with pytest.raises(DatasetError, match="Cityscapes has its train images there"):
        Cityscapes(str(tmp_path), "train")


def test_class_folders(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[:10], labels[10:] = 11, 3
    scenes = CamVid(str(pairs(tmp_path, 2, labels)))
    _, classes = scenes.read(1)
    assert set(classes[:10].ravel()) == {255}
    assert set(classes[10:].ravel()) == {3}
    with pytest.raises(DatasetError, match=r"class ids must be below 11, or void, got \[11\]"):
        CamVid(str(tmp_path), void_ids=[255])
    with pytest.raises(ConfigError, match="ground_classes must be ids below 2"):
        CamVid(str(tmp_path), class_names=["a", "b"], ground_classes=[2])


def test_semantic_crops(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[:, 15:] = 3
    data = SemanticViews(CamVid(str(pairs(tmp_path, 1, labels))), (20, 30))
    assert len(data) == 1
    np.testing.assert_array_equal(data[0].semantic.numpy(), labels)
    varied = SemanticViews(CamVid(str(tmp_path)), (20, 30), views_per_image=20, augmentation=Augmentation())
    lefts = {int(varied[index].semantic[0, 0]) for index in range(20)}
    assert lefts == {0, 3}  # some are mirrored
    assert all(varied[index].image.shape == (3, 20, 30) for index in range(20))
