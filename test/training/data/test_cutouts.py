import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from eomt_ext_training.data.coco import CocoCutouts, instance_mask
from eomt_ext_training.data.cutouts import CutoutFolder, CutoutSource, ProceduralCutouts, trimmed
from eomt_ext_training.data.pasted_anomalies import PastedAnomalies
from eomt_ext_training.data.pasting import Pasting
from eomt_ext_training.data.road_scenes import CamVid
from eomt_ext_training.data.views import Augmentation
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, DatasetError


def disc(size: int = 40) -> NDArray[np.uint8]:
    rgba = np.zeros((size, size, 4), np.uint8)
    cv2.circle(rgba, (size // 2, size // 2), size // 3, (20, 200, 30, 255), -1)
    return rgba


def test_cutouts_are_trimmed_and_framed() -> None:
    framed = trimmed(disc(60))
    assert framed.shape == (45, 45, 4)  # a diameter of 41 px and 2 px of border on each side
    assert not framed[[0, 1, -1, -2], :, 3].any()
    assert framed[2:-2, 2:-2, 3].any(axis=0).all()
    assert max(trimmed(disc(900)).shape) == 260


def test_shrinking_does_not_darken_the_edge() -> None:
    shrunk = trimmed(disc(900))
    seen = shrunk[..., 3] > 20
    assert np.abs(shrunk[seen][:, :3].astype(int) - (20, 200, 30)).max() <= 2


def test_a_folder_of_cutouts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), cv2.cvtColor(disc(), cv2.COLOR_RGBA2BGRA))
    cv2.imwrite(str(tmp_path / "no alpha.png"), disc()[..., :3])
    cv2.imwrite(str(tmp_path / "clear.png"), np.zeros((9, 9, 4), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    with caplog.at_level(logging.WARNING):
        folder = CutoutFolder(str(tmp_path), height_m=(0.5, 2.0))
    assert len(folder) == 1
    assert len(folder.skipped) == 3
    assert all(name in caplog.text for name in ("no alpha.png", "clear.png", "broken.png", "skipped 3 of 4"))
    sprite = folder.draw(np.random.default_rng(0), 50.0)
    assert 0.5 <= sprite.height_m <= 2.0
    assert sprite.width_m == pytest.approx(sprite.height_m)  # it is a disc
    assert sprite.rgba[sprite.rgba.shape[0] // 2, sprite.rgba.shape[1] // 2].tolist() == [20, 200, 30, 255]

    (tmp_path / "good.png").unlink()
    with pytest.raises(DatasetError, match="at least one RGBA image, got none of 3 images"):
        CutoutFolder(str(tmp_path))
    with pytest.raises(ConfigError, match="height_m must be two positive, ascending"):
        CutoutFolder(str(tmp_path), height_m=(2.0, 1.0))


def test_procedural_cutouts_are_of_their_families_and_sharp_enough() -> None:
    source = ProceduralCutouts(("tyre",), ("plain",))
    sprite = source.draw(np.random.default_rng(0), px_per_m=100.0)
    assert sprite.px_per_m >= 100.0
    again = source.draw(np.random.default_rng(0), px_per_m=100.0)
    np.testing.assert_array_equal(sprite.rgba, again.rgba)
    assert source.fingerprint() != ProceduralCutouts(("tyre",), ("wood",)).fingerprint()
    with pytest.raises(ConfigError, match=r"obstacle_families must name at least one of .*unicorn"):
        ProceduralCutouts(("unicorn",))


# -- COCO -------------------------------------------------------------------------------------------------------------


def test_polygons_cover_the_pixels_within_and_their_union_counts() -> None:
    square = [2.0, 2.0, 6.0, 2.0, 6.0, 5.0, 2.0, 5.0]  # pixel edges: columns 2 to 5, rows 2 to 4
    mask = instance_mask([square, [4.0, 3.0, 8.0, 3.0, 8.0, 7.0, 4.0, 7.0]], (9, 10))
    assert (mask[2:5, 2:6] == 255).all()
    assert (mask[3:7, 4:8] == 255).all()
    outside = np.ones_like(mask, np.bool_)
    outside[1:6, 1:7] = outside[2:8, 3:9] = False  # OpenCV draws the outline as well: up to a pixel more
    assert not mask[outside].any()


def test_run_lengths_go_down_the_columns() -> None:
    mask = instance_mask({"size": [3, 2], "counts": [1, 1, 2, 2]}, (3, 2))
    assert (mask > 0).tolist() == [[False, False], [True, True], [False, True]]
    with pytest.raises(DatasetError, match="run lengths must fill"):
        instance_mask({"size": [3, 2], "counts": [1, 1]}, (3, 2))
    with pytest.raises(DatasetError, match="polygons or uncompressed run lengths"):
        instance_mask({"size": [3, 2], "counts": "PQ1"}, (3, 2))


def coco(root: Path, annotations: list[dict[str, Any]]) -> tuple[str, str]:
    picture = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    cv2.imwrite(str(root / "a.png"), picture)
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 80, "width": 100},
            {"id": 2, "file_name": "gone.png", "height": 80, "width": 100},
        ],
        "categories": [{"id": 7, "name": "car"}, {"id": 8, "name": "sheep"}],
        "annotations": [{"iscrowd": 0} | annotation for annotation in annotations],
    }
    path = root / "instances.json"
    path.write_text(json.dumps(content))
    return str(path), str(root)


def instance(number: int, **changes: Any) -> dict[str, Any]:
    square = [[20.0, 20.0, 60.0, 20.0, 60.0, 50.0, 20.0, 50.0]]
    whole = {"id": number, "image_id": 1, "category_id": 8, "bbox": [20.0, 20.0, 40.0, 30.0], "area": 1200.0}
    return whole | {"segmentation": square} | changes


def test_instances_that_are_no_traffic_are_cut_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unwanted = [
        instance(1, category_id=7),
        instance(2, area=10.0),
        instance(3, bbox=[0.0, 20.0, 40.0, 30.0]),
        instance(4, iscrowd=1),
    ]
    broken = [instance(5, segmentation={"size": [80, 100], "counts": "PQ1"}), instance(6, image_id=2)]
    with caplog.at_level(logging.WARNING):
        source = CocoCutouts(*coco(tmp_path, [*unwanted, *broken, instance(9)]), min_area_px=100)
    assert len(source) == 1
    assert len(source.skipped) == 2
    assert "instance 5" in caplog.text
    assert "gone.png" in caplog.text
    assert "skipped 2 of 3" in caplog.text
    sprite = source.draw(np.random.default_rng(0), 50.0)
    picture = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert sprite.rgba.shape[:2] == pytest.approx((34, 44), abs=8)
    middle = sprite.rgba[sprite.rgba.shape[0] // 2, sprite.rgba.shape[1] // 2]
    assert middle[3] == 255
    assert (picture[20:50, 20:60] == middle[:3]).all(axis=-1).any()


def test_coco_fingerprint_covers_the_images_and_what_was_skipped(tmp_path: Path) -> None:
    annotations, images = coco(tmp_path, [instance(1), instance(2, image_id=2)])
    picture = (tmp_path / "a.png").read_bytes()
    (tmp_path / "gone.png").write_bytes(picture)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.png", "gone.png"):
        (tmp_path / "elsewhere" / name).write_bytes(picture)

    def fingerprint(folder: str = images) -> str:
        return CocoCutouts(annotations, folder, min_area_px=100).fingerprint()

    whole = fingerprint()
    assert fingerprint() == whole
    assert fingerprint(str(tmp_path / "elsewhere")) != whole
    (tmp_path / "gone.png").unlink()
    without_one = fingerprint()
    assert without_one != whole
    (tmp_path / "a.png").write_bytes(picture + b"\0")
    assert fingerprint() not in (whole, without_one)


def test_coco_images_that_break_off_are_skipped(tmp_path: Path) -> None:
    annotations, images = coco(tmp_path, [instance(1), instance(2, image_id=2)])
    cv2.imwrite(str(tmp_path / "as.jpg"), cv2.imread(str(tmp_path / "a.png")))
    content = (tmp_path / "as.jpg").read_bytes()
    (tmp_path / "gone.png").write_bytes(content[: len(content) // 2])  # OpenCV goes by the content
    source = CocoCutouts(annotations, images, min_area_px=100)
    assert len(source) == len(source.skipped) == 1
    assert "gone.png: a JPEG image must go from its header to an end marker" in source.skipped[0]


def test_coco_without_anything_to_cut_out_is_an_error(tmp_path: Path) -> None:
    paths = coco(tmp_path, [instance(1, category_id=7)])
    with pytest.raises(DatasetError, match="at least one cut-out, got none of 0 instances"):
        CocoCutouts(*paths)
    Path(paths[0]).write_text("{}")
    with pytest.raises(DatasetError, match="not the instances of a COCO data set"):
        CocoCutouts(*paths)


# -- pasted -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path: Path) -> CamVid:
    rng = np.random.default_rng(0)
    for index in range(2):
        picture = rng.integers(80, 120, (120, 160, 3)).astype(np.uint8)
        labels = np.zeros((120, 160), np.uint8)
        labels[60:], labels[:, :8] = 3, 11
        for name, array in (("images", picture), ("labels", labels)):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), array)
    return CamVid(str(tmp_path))


def pasted(scenes: CamVid, **changes: Any) -> PastedAnomalies:
    source: CutoutSource = ProceduralCutouts(("box", "ellipse"), ("stripes",))
    settings = {"pasting": Pasting(probability=1.0), "views_per_image": 10} | changes
    return PastedAnomalies(scenes, source, (96, 128), **settings)


def test_pasted_anomalies_stand_on_the_ground_and_void_stays(scenes: CamVid) -> None:
    data = pasted(scenes)
    assert len(data) == 20
    shares = []
    for index in range(len(data)):
        sample = data[index]
        assert sample.image.shape == (3, 96, 128)
        assert set(sample.labels.unique().tolist()) <= {0, 1, 255}
        anomaly = sample.labels == 1
        shares.append(float(anomaly.float().mean()))
        untouched = sample.labels[:40, :6]  # void in the scene, above everything but the largest things
        assert ((untouched == 255) | (untouched == 1)).all()
        if anomaly.any():
            assert int(anomaly.nonzero()[:, 0].max()) >= 48  # they stand below the horizon
    assert np.mean(np.array(shares) > 0) > 0.8
    assert max(shares) < 0.5


def test_pasting_follows_from_seed_and_index_alone(scenes: CamVid) -> None:
    one, two = pasted(scenes, augmentation=Augmentation()), pasted(scenes, augmentation=Augmentation())
    for index in (0, 7, 3):
        first, second = one[index], two[index]
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.labels, second.labels)
        assert first.key == second.key
    assert not torch.equal(one[0].image, one[2].image)  # another view of the same image
    assert not torch.equal(one[0].image, pasted(scenes, augmentation=Augmentation(), seed=1)[0].image)


def test_a_probability_of_none_pastes_nothing(scenes: CamVid) -> None:
    data = pasted(scenes, pasting=Pasting(probability=0.0))
    image, _ = scenes.read(0)
    assert not any((data[index].labels == 1).any() for index in range(4))
    small = cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(data[0].image.permute(1, 2, 0).numpy(), small)


def test_fingerprints_cover_scenes_source_and_settings(scenes: CamVid) -> None:
    prints = {
        pasted(scenes).fingerprint(),
        pasted(scenes, seed=1).fingerprint(),
        pasted(scenes, pasting=Pasting(max_objects=1)).fingerprint(),
        PastedAnomalies(scenes, ProceduralCutouts(("cone",)), (96, 128)).fingerprint(),
        PastedAnomalies(scenes, ProceduralCutouts(("box",)), (96, 128)).fingerprint(),
    }
    assert len(prints) == 5
    assert pasted(scenes).fingerprint() in prints
