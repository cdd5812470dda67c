"""The replay command on tiny bags: every frame, every digit, and what it says when something is missing."""

import base64
import functools
import json
import os
import re
import signal

import cv2
import numpy as np
import pytest

from eomt_ext_core.evaluation.panels import image_thumbnail
from eomt_ext_core.images import VideoWriter
from eomt_ext_ros.bags.messages import plane
from eomt_ext_ros.replay import one_bag
from eomt_ext_ros.replay.topics import output_topic

START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000
PROBABILITY, MASK, OVERLAY = (output_topic("", name) for name in ("probability", "mask", "overlay"))


def metrics(outcome):
    return json.loads((outcome.folder / "metrics.json").read_text())


def frame_rows(outcome):
    return metrics(outcome)["sets"][0]["frames"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kind", ["raw", "png"])
def test_every_frame_is_answered_under_its_own_header(drive, replay, read_outputs, engine, pixels_of, storage, kind):
    outcome = replay(drive(storage=storage, kind=kind))

    assert outcome.status == 0, outcome.text
    outputs = read_outputs(outcome.folder / "annotated")
    assert set(outputs) == {PROBABILITY, MASK, OVERLAY}
    for topic, messages in outputs.items():
        assert len(messages) == 6
        for index, (time_ns, msg) in enumerate(messages):
            stamp = START_NS + index * STEP_NS
            assert time_ns == stamp + 5
            assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == divmod(stamp, 10**9)
            assert msg.header.frame_id == "optical_0"
            frame = engine.infer(pixels_of(index))
            if topic == PROBABILITY:
                assert msg.encoding == "32FC1"
                np.testing.assert_array_equal(plane(msg), frame.probability)
            elif topic == MASK:
                np.testing.assert_array_equal(plane(msg), frame.mask * np.uint8(255))


@pytest.mark.parametrize("outputs", ["probability,mask,overlay", "overlay,probability"])
def test_the_report_shows_the_images_as_they_were_recorded(drive, replay, pixels_of, outputs):
    outcome = replay(drive(frames=3, labels="raw"), label_topic="/camera/labels", outputs=outputs)
    page = (outcome.folder / "report.html").read_text()
    shown = re.findall(r'alt="image of [^"]*" src="data:image/jpeg;base64,([^"]*)"', page)
    assert {base64.b64decode(each) for each in shown} == {image_thumbnail(pixels_of(index)) for index in range(3)}


def test_two_runs_are_the_same_to_the_last_byte(drive, replay):
    bag = drive(labels="raw")
    runs = [replay(bag, out=name, label_topic="/camera/labels", scores="head,msp") for name in ("one", "two")]

    first, second = ({**metrics(outcome), "record": None} for outcome in runs)
    assert first == second
    for name in ("annotated/annotated.mcap", "annotated/metadata.yaml"):
        first, second = ((outcome.folder / name).read_bytes() for outcome in runs)
        assert first == second, name


def test_what_is_written(drive, replay, tmp_path):
    outcome = replay(drive(labels="raw"), label_topic="/camera/labels")

    files = {path.name for path in outcome.folder.iterdir()}
    assert {"annotated", "overlay.mp4", "metrics.json", "timing.json"} <= files
    assert not [name for name in files if name.startswith(".")]
    capture = cv2.VideoCapture(str(outcome.folder / "overlay.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), round(capture.get(cv2.CAP_PROP_FPS))) == (6, 10)
    timing = json.loads((outcome.folder / "timing.json").read_text())["replay"]
    assert [row["frame_id"] for row in frame_rows(outcome)] == sorted(timing)
    assert sorted(timing)[1] == "drive/1700000000.100000000"
    assert all(latency_ms > 0 for latency_ms in timing.values())


def test_label_topic_and_folder_agree(drive, replay, labels_of, tmp_path):
    bag = drive(labels="png")
    folder = tmp_path / "labels" / "drive"
    folder.mkdir(parents=True)
    for index in range(6):
        seconds, nanoseconds = divmod(START_NS + index * STEP_NS, 10**9)
        name = f"{seconds}.{nanoseconds:09d}.png" if index % 2 else f"{START_NS + index * STEP_NS}.png"
        cv2.imwrite(str(folder / name), labels_of(index))

    by_topic = replay(bag, out="topic", label_topic="/camera/labels")
    by_folder = replay(bag, out="folder", labels=folder.parent)
    assert by_topic.status == by_folder.status == 0, by_topic.text + by_folder.text
    assert metrics(by_topic) == metrics(by_folder)
    (found,) = metrics(by_topic)["sets"]
    assert found["num_labelled_frames"] == 6
    assert found["scores"]["head"]["pixel"]["num_anomalous"] == 6 * 18 * 30


def test_labels_without_anomalies_are_reported(drive, replay, labels_of, tmp_path):
    bag, folder = drive(frames=3), tmp_path / "labels"
    folder.mkdir()
    for index in range(3):
        labels = np.where(labels_of(index) == 1, 255, 0).astype(np.uint8)
        cv2.imwrite(str(folder / f"{START_NS + index * STEP_NS}.png"), labels)

    outcome = replay(bag, labels=folder)
    assert outcome.status == 3
    problem = (outcome.folder / "problems.txt").read_text(encoding="utf-8")
    assert "no AuPRC, FPR95 or AUROC: " in problem
    assert "no anomalous one in 3 label maps" in problem
    assert "if 255 marks the anomalies, pass --label-values normal=0,anomaly=255" in problem
    assert metrics(outcome)["sets"][0]["num_labelled_frames"] == 3

    outcome = replay(bag, out="read", labels=folder, label_values="normal=0,anomaly=255")
    assert outcome.status == 0, outcome.text
    assert metrics(outcome)["sets"][0]["scores"]["head"]["pixel"]["num_anomalous"] == 3 * 18 * 30


def test_mismatched_labels_are_reported(drive, replay, labels_of, tmp_path):
    bag = drive(frames=4)
    folder = tmp_path / "labels"
    folder.mkdir()
    spoilt = labels_of(1)
    spoilt[0, 0] = 7
    for index, labels in enumerate([labels_of(0), spoilt, labels_of(2, (24, 40))]):
        cv2.imwrite(str(folder / f"{START_NS + index * STEP_NS}.png"), labels)

    outcome = replay(bag, labels=folder)
    assert outcome.status == 3
    assert metrics(outcome)["sets"][0]["num_frames"] == 4
    assert metrics(outcome)["sets"][0]["num_labelled_frames"] == 1
    said = (outcome.folder / "problems.txt").read_text()
    assert "got 7: define their meaning by --label-values" in said
    assert "same shape" in said


def test_range_and_step_choose_frames(drive, replay):
    outcome = replay(drive(frames=10), start=0.2, duration=0.6, every=2)

    assert outcome.status == 0
    names = [row["frame_id"] for row in frame_rows(outcome)]
    assert names == [f"drive/1700000000.{index}00000000" for index in (2, 4, 6)]


def test_several_cameras_have_topics_and_videos_of_their_own(drive, replay, read_outputs):
    topics = ("/front/image_raw", "/rear/image_raw")
    outcome = replay(drive(frames=3, topics=topics), image_topic=topics, outputs="mask")

    assert outcome.status == 0, outcome.text
    outputs = read_outputs(outcome.folder / "annotated")
    assert {topic: len(messages) for topic, messages in outputs.items()} == {
        "/eomt_ext/front/output/mask": 3,
        "/eomt_ext/rear/output/mask": 3,
    }
    assert outputs["/eomt_ext/rear/output/mask"][0][1].header.frame_id == "optical_1"
    assert {"overlay_front.mp4", "overlay_rear.mp4"} <= {path.name for path in outcome.folder.iterdir()}
    assert len(frame_rows(outcome)) == 6


def test_a_cut_bag_is_replayed_as_far_as_it_goes(drive, replay, read_outputs):
    bag = drive(frames=10, compression="storage", size_hw=(120, 160))
    bag.file.write_bytes(bag.file.read_bytes()[:-260_000])

    outcome = replay(bag)
    assert outcome.status == 3
    answered = len(read_outputs(outcome.folder / "annotated")[PROBABILITY])
    assert 2 <= answered <= 8
    about = metrics(outcome)["about"]
    assert about["bags"] == {"drive": f"{answered} of {answered} frames"}
    assert any(f"{answered} of 10 recorded messages found" in problem for problem in about["problems"])
    assert "the file ends" in outcome.text


def test_a_bag_of_which_nothing_is_left_is_reported(drive, replay):
    bag = drive()
    bag.file.write_bytes(b"")

    outcome = replay(bag)
    assert outcome.status == 1
    assert metrics(outcome)["sets"][0]["num_frames"] == 0
    assert any("0 of 6 recorded messages" in problem for problem in metrics(outcome)["about"]["problems"])


def test_frames_that_cannot_be_decoded_cost_no_other(write_bag, serialize, pixels_of, replay, read_outputs):
    good = [serialize(pixels_of(index), "png", START_NS + index) for index in range(4)]
    data = [good[0], good[1][:-2000], good[2].replace(b"IDAT", b"XXXX"), good[3]]
    bag = write_bag("drive", [("/camera/image", "png", START_NS + i, d) for i, d in enumerate(data)])

    outcome = replay(bag)
    assert outcome.status == 3
    assert len(read_outputs(outcome.folder / "annotated")[PROBABILITY]) == 2
    assert len((outcome.folder / "problems.txt").read_text().splitlines()) == 2


def test_a_compressed_mosaic_is_debayered(write_bag, serialize, pixels_of, replay, read_outputs, engine):
    mosaic = np.ascontiguousarray(pixels_of(0)[..., 0])
    data = serialize(mosaic, "png", START_NS, image_format="bayer_gbrg8; png compressed ")
    outcome = replay(write_bag("drive", [("/camera/image", "png", START_NS, data)]))

    assert outcome.status == 0, outcome.text
    ((_, msg),) = read_outputs(outcome.folder / "annotated")[PROBABILITY]
    expected = engine.infer(cv2.cvtColor(mosaic, cv2.COLOR_BayerGR2RGB)).probability
    np.testing.assert_array_equal(plane(msg), expected)


def test_lost_colours_are_reported_once(write_bag, serialize, pixels_of, replay):
    greys = [np.ascontiguousarray(pixels_of(i)[..., 0]) for i in range(3)]
    data = [serialize(grey, "jpeg", START_NS, image_format="bayer_rggb8; jpeg compressed mono8") for grey in greys]
    outcome = replay(write_bag("drive", [("/camera/image", "jpeg", START_NS + i, d) for i, d in enumerate(data)]))

    assert outcome.status == 0, outcome.text
    (problem,) = (outcome.folder / "problems.txt").read_text().splitlines()
    assert problem.startswith("drive: /camera/image has no colours: its publisher converted the colours to grey")
    assert "has no colours" in outcome.text


def test_frames_with_one_stamp_are_all_evaluated(write_bag, serialize, pixels_of, replay):
    messages = [("/camera/image", "raw", START_NS + i, serialize(pixels_of(i), "raw", 0)) for i in range(3)]
    outcome = replay(write_bag("drive", messages))

    assert outcome.status == 0
    names = [row["frame_id"] for row in frame_rows(outcome)]
    assert names == ["drive/0000000000.000000000", "drive/0000000000.000000000#2", "drive/0000000000.000000000#3"]


def test_images_may_change_their_size(write_bag, serialize, pixels_of, replay, read_outputs):
    sizes = [(48, 80), (32, 64), (61, 33)]
    messages = [
        ("/camera/image", "raw", START_NS + i, serialize(pixels_of(i, size), "raw", START_NS + i))
        for i, size in enumerate(sizes)
    ]
    outcome = replay(write_bag("drive", messages))

    assert outcome.status == 0, outcome.text
    found = read_outputs(outcome.folder / "annotated")[PROBABILITY]
    assert [(msg.height, msg.width) for _, msg in found] == sizes


def failing_at(number, error):
    """An engine's ``score_maps`` that fails at a frame."""
    original = one_bag.AnomalyEngine.score_maps
    calls = []

    @functools.wraps(original)
    def score_maps(self, *args):
        calls.append(1)
        if len(calls) == number:
            error()
        return original(self, *args)

    return score_maps


def test_a_failure_underway_keeps_what_was_done(drive, replay, read_outputs, monkeypatch):
    def lose_gpu():
        raise RuntimeError("the GPU fell off the bus")

    monkeypatch.setattr(one_bag.AnomalyEngine, "score_maps", failing_at(4, lose_gpu))
    outcome = replay(drive())

    assert outcome.status == 3
    assert "the GPU fell off the bus" in outcome.text
    assert len(read_outputs(outcome.folder / "annotated")[PROBABILITY]) == 3
    assert len(frame_rows(outcome)) == 3
    assert cv2.VideoCapture(str(outcome.folder / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_done(drive, replay, read_outputs, monkeypatch, number):
    monkeypatch.setattr(one_bag.AnomalyEngine, "score_maps", failing_at(3, lambda: os.kill(os.getpid(), number)))
    before = signal.getsignal(number)
    outcome = replay(drive(), drive(name="next"))

    assert outcome.status == 130
    assert "interrupted" in outcome.text
    assert len(read_outputs(outcome.folder / "drive" / "annotated")[PROBABILITY]) == 3  # the frame at hand is finished
    assert len(frame_rows(outcome)) == 3
    assert not (outcome.folder / ".stop").exists()
    assert signal.getsignal(number) is before


def test_unwritable_video_ends_the_replay_cleanly(drive, replay, read_outputs, monkeypatch):
    def refuse(self, frame_rgb):
        raise OSError("no space left on device")

    monkeypatch.setattr(VideoWriter, "write", refuse)
    outcome = replay(drive())

    assert outcome.status == 1
    assert "no space left on device" in outcome.text
    assert len(read_outputs(outcome.folder / "annotated")[PROBABILITY]) == 1


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"every": 0}, "every"),
        ({"duration": -1.0}, "duration more than 0 s"),
        ({"scores": "head,nonsense"}, "nonsense"),
        ({"outputs": "picture"}, "outputs must be some of"),
        ({"track": "race"}, "track must be one of"),
        ({"labels": "/nowhere"}, "existing folder, got /nowhere"),
        ({"label_topic": ("/a", "/b")}, "match the image topics"),
        ({"image_topic": ("/a", "/a")}, "different names"),
        ({"checkpoint": "/nowhere.safetensors"}, "nowhere.safetensors"),
        ({"image_topic": "/camera/labels"}, "/camera/labels is not in the bag"),
        ({"image_topic": "/wrong"}, "/wrong is not in the bag; its image topics are /camera/image"),
        ({"label_topic": "/wrong"}, "label topic /wrong is not in the bag"),
    ],
)
def test_wrong_option_is_reported(drive, replay, options, what):
    outcome = replay(drive(frames=1), **options)

    assert outcome.status in (1, 2, 3)
    assert what in outcome.text.replace("\n", " ") + str(outcome.exception)
