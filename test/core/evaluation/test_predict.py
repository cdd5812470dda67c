import csv

import cv2
import numpy as np
import pytest

from eomt_ext_core.config import EngineConfig, ObstacleConfig
from eomt_ext_core.engine import AnomalyFrame, Explanation
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evaluation.parallel import evaluate_shards
from eomt_ext_core.evaluation.predict import PredictionWriter, PredictRun, deal_out, is_interrupted, list_inputs
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.images import VideoWriter
from eomt_ext_core.tracking import TrackingConfig
from eomt_ext_core.visualization import BOX_RGB


class RedEngine:
    """Finds red."""

    threshold, class_names, has_semantic = 0.5, ("road", "car"), True

    def explain(self, image_rgb):
        """Takes what is green for cars."""
        probability = self.infer(image_rgb).probability
        statistics = np.stack([1 - probability, probability, 1 - probability, probability])
        return Explanation((image_rgb[..., 1] > 100).view(np.uint8), statistics)

    def infer(self, image_rgb):
        probability = image_rgb[..., 0].astype(np.float32) / 255
        return AnomalyFrame(probability, probability > 0.5)


def predict(paths, writer):
    return [frame for source in list_inputs(paths).sources for frame in writer.process(source, RedEngine())]


def test_image_round_trip(tmp_path, write_image):
    path = write_image(tmp_path / "in" / "street.png", (30, 40))
    (frame,) = predict([path], PredictionWriter(tmp_path / "out"))
    (found,) = predict([path.parent], PredictionWriter(tmp_path / "out_npy", "npy"))
    stored = cv2.imread(str(tmp_path / "out" / "probability" / "street.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, frame.probability, atol=0.5 / 65535 + 1e-7)
    np.testing.assert_array_equal(np.load(tmp_path / "out_npy" / "probability" / "street.npy"), found.probability)
    mask = cv2.imread(str(tmp_path / "out" / "mask" / "street.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, frame.mask * 255)
    assert cv2.imread(str(tmp_path / "out" / "overlay" / "street.png")).shape == (30, 40, 3)


def test_video_gives_videos(tmp_path):
    with VideoWriter(tmp_path / "drive.mp4", 10.0) as video:
        for level in (0, 80, 250):
            video.write(np.full((48, 64, 3), level, np.uint8))
    frames = predict([tmp_path / "drive.mp4"], PredictionWriter(tmp_path / "out"))
    assert [bool(frame.mask.any()) for frame in frames] == [False, False, True]
    for kind in ("overlay", "mask"):
        capture = cv2.VideoCapture(str(tmp_path / "out" / kind / "drive.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
        assert capture.get(cv2.CAP_PROP_FPS) == 10
    last = cv2.imread(str(tmp_path / "out" / "probability" / "drive" / "000002.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(last, np.rint(frames[2].probability * np.float32(65535)).astype(np.uint16))


def test_obstacles_are_followed_in_a_video_and_not_in_a_photograph(tmp_path):
    pictures = [np.zeros((48, 96, 3), np.uint8) for _ in range(4)]
    for number, picture in enumerate(pictures):
        picture[16:32, 8 + 8 * number : 24 + 8 * number, 0] = 240
    cv2.imwrite(str(tmp_path / "drive.png"), pictures[0][..., ::-1])
    with VideoWriter(tmp_path / "drive.mp4", 10.0) as video:
        for picture in pictures:
            video.write(picture)
    paths = [tmp_path / "drive.png", tmp_path / "drive.mp4"]
    rows = {}
    for confirmed_only in (False, True):
        out = tmp_path / f"out{confirmed_only}"
        predict(paths, PredictionWriter(out, "none", ObstacleConfig(confirmed_only=confirmed_only)))
        for path in paths:
            with (out / "obstacles" / f"{path.name}.csv").open() as file:
                rows[path.suffix, confirmed_only] = list(csv.DictReader(file))
    assert rows[".png", False] == rows[".png", True], "nothing confirms what is in a photograph"
    assert [(row["track_id"], row["left"], row["area_px"]) for row in rows[".png", True]] == [("", "8", "256")]
    followed = [(row["time_s"], row["track_id"], row["state"]) for row in rows[".mp4", False]]
    confirmed = [(f"0.{number}00", "1", "confirmed") for number in (1, 2, 3)]
    assert followed == [("0.000", "1", "tentative"), *confirmed]
    assert [row["time_s"] for row in rows[".mp4", True]] == ["0.100", "0.200", "0.300"]
    framed = [
        (cv2.imread(str(tmp_path / f"out{only}" / "overlay" / "drive.png")) == BOX_RGB[::-1]).all(2).any()
        for only in (False, True)
    ]
    assert framed == [True, True]


def test_probability_may_be_left_out(tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    predict([path], PredictionWriter(tmp_path / "out", "none"))
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["mask", "obstacles", "overlay"]


def test_what_is_no_input_is_named(tmp_path, write_image):
    write_image(tmp_path / "good.png")
    (tmp_path / "empty").mkdir()
    named = [tmp_path / name for name in ("good.png", "nowhere.png", "notes.txt", "empty")]
    sources, problems = list_inputs(named)
    assert [source.path.name for source in sources] == ["good.png", "nowhere.png"]
    assert "empty contains no image and no video" in problems[0]
    assert "notes.txt must be an image or a video" in problems[1]
    with pytest.raises(ConfigError, match="png, npy, none"):
        PredictionWriter(tmp_path, "jpg")


def test_two_inputs_of_one_name_are_refused(tmp_path, write_image):
    write_image(tmp_path / "one" / "a.png")
    write_image(tmp_path / "two" / "a.jpg")
    with pytest.raises(ConfigError, match=r"different names, .*one/a\.png and .*two/a\.jpg"):
        list_inputs([tmp_path / "one", tmp_path / "two"])
    (tmp_path / "one" / "a.mp4").touch()  # cameras name the video of a photograph so
    assert len(list_inputs([tmp_path / "one"]).sources) == 2


def test_a_folder_holds_visible_images_and_videos_only(tmp_path, write_image):
    write_image(tmp_path / "IMG_1.JPG")
    for name in ("._IMG_1.JPG", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "dead.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "scan.tif").write_bytes(b"II*\0")
    sources, problems = list_inputs([tmp_path])
    assert [source.path.name for source in sources] == ["IMG_1.JPG", "dead.png", "scan.tif"]
    assert [problem.split("/")[-1] for problem in problems] == [
        "folder.jpg is a folder: pass it as an input to read its files"
    ]


def test_the_report_has_the_obstacles_of_the_table_and_why(tmp_path):
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[10:30, 20:40] = 204, 200, 0  # red and green: an obstacle that looks like a car, above what does not
    with VideoWriter(tmp_path / "drive.mp4", 10.0) as video:
        for _ in range(3):
            video.write(picture)
    with Evaluator(["head"], spool_folder=tmp_path) as evaluator:
        predict([tmp_path / "drive.mp4"], PredictionWriter(tmp_path / "out", "none", evaluator=evaluator, explain=True))
        result = evaluator.result()
    with (tmp_path / "out" / "obstacles" / "drive.mp4.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["nearest_class"], row["class_beneath"]) for row in rows] == [("car", "road")] * 3
    assert all(float(row["msp"]) > 0.5 and float(row["max_prob"]) < 0.5 for row in rows)
    details = [result.details[f"drive.mp4/{index:06d}"] for index in range(3)]
    assert [(each.index, each.time_s, each.video) for each in details] == [
        (index, pytest.approx(index / 10), "overlay/drive.mp4") for index in range(3)
    ]
    for row, detail in zip(rows, details, strict=True):
        (shown,) = detail.obstacles
        assert {key: str(value) for key, value in shown.items()} == {key: row[key] for key in shown}


@pytest.fixture
def sources(tmp_path, write_image):
    """Two images and a video of three frames between them."""
    for name in ("a", "c"):
        write_image(tmp_path / "in" / f"{name}.png", (48, 64))
    with VideoWriter(tmp_path / "in" / "b.mp4", 10.0) as video:
        for level in (0, 80, 250):
            video.write(np.full((48, 64, 3), level, np.uint8))
    return list_inputs([tmp_path / "in"]).sources


@pytest.fixture
def run(checkpoint):
    config = EngineConfig("cpu", precision="fp32")
    return PredictRun(str(checkpoint), config, None, None, "none", ObstacleConfig(), TrackingConfig(), False)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_workers_share_whole_sources_and_one_report(run, sources, tmp_path):
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        shards = deal_out(run, sources, out, tmp_path, workers)
        (result,) = evaluate_shards([[shard for part in shards for shard in part]])
        found.append((files(out), [frame.frame_id for frame in result.frames]))
    assert found[0] == found[1]
    assert found[0][1] == ["a.png", "b.mp4/000000", "b.mp4/000001", "b.mp4/000002", "c.png"]
    assert len(deal_out(run, sources, tmp_path, None, 9)) == 3, "no worker is without a source"


@pytest.mark.parametrize("frames", [1, 2])
def test_an_interrupted_run_keeps_what_it_has(run, sources, tmp_path, frames):
    left = iter([True] * (frames - 1))
    ((shard,),) = deal_out(run, sources, tmp_path / "out", tmp_path, 1)
    with shard.evaluate(lambda: next(left, False)) as evaluator:
        result = evaluator.result()
    assert is_interrupted(result)
    assert list(result.skipped) == ["b.mp4", "c.png"]
    assert len(result.frames) == frames
    assert ("overlay/b.mp4" in files(tmp_path / "out")) == (frames == 2)
    assert not [name for name in files(tmp_path / "out") if ".part" in name]
