"""What a replay leaves of what was there before."""

import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from eomt_ext_core import progress
from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.bags import BagWriter
from eomt_ext_ros.replay import command, one_bag

CASES = Path(__file__).resolve().parents[3].parent / "shared" / "cases" / "mcap_names"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_PERIOD_S", 0.0)
    with command._progress(Console(stderr=True, force_terminal=False), 2) as (frame_done, bag_done):
        frame_done(3, 10)
        bag_done(None)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("frames of a bag: 3 of 10")
    assert second.startswith("bags: 1 of 2")
    with progress.hidden_progress(), command._progress(Console(stderr=True), 2) as (frame_done, _):
        frame_done(3, 10)
    assert capsys.readouterr().err == ""


@pytest.fixture
def filled(drive, replay):
    """An output folder with results, a file and a bag that are somebody's, and what is in it."""
    outcome = replay(drive(name="first"))
    (outcome.folder / "notes.txt").write_text("mine")
    (outcome.folder / "problems.txt").write_text("of the first run")
    (outcome.folder / "annotated" / "mine.db3").write_bytes(b"mine")
    return outcome.folder, files(outcome.folder)


def test_results_are_not_replaced_unasked(filled, drive, replay):
    folder, before = filled
    outcome = replay(drive(name="second"))
    assert outcome.status == 1
    assert isinstance(outcome.exception, ConfigError)
    assert "--overwrite" in str(outcome.exception)
    assert files(folder) == before


def test_results_replace_results_and_nothing_else(filled, drive, replay):
    folder, before = filled
    outcome = replay(drive(name="second", frames=3), overwrite=True)
    assert outcome.status == 0, outcome.text
    after = files(folder)
    assert before.keys() - after.keys() == {"problems.txt"}
    assert {name for name in after if after[name] == before[name]} == {"notes.txt", "annotated/mine.db3"}
    assert b"second/17" in after["metrics.json"]


@pytest.mark.parametrize("end", ["killed", "failed", "no frame"])
def test_a_replay_that_breaks_off_leaves_the_last_results(filled, drive, replay, monkeypatch, end):
    folder, before = filled

    def break_off(*arguments, **options):
        if end == "failed":
            raise RuntimeError("the GPU fell off the bus")
        os.kill(os.getpid(), signal.SIGINT)
        raise one_bag.ImageError("after the signal")

    if end != "no frame":
        monkeypatch.setattr(one_bag, "find_obstacles", break_off)
    outcome = replay(
        drive(name="second", topics=("/other",) if end == "no frame" else ("/camera/image",)), overwrite=True
    )
    assert outcome.status == {"killed": 130, "failed": 1, "no frame": 1}[end]
    assert {name: data for name, data in files(folder).items() if not name.startswith("unfinished-")} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_killed_replay_left_is_deleted(drive, replay, tmp_path, overwrite):
    (tmp_path / "out" / ".scores-left").mkdir(parents=True)
    (tmp_path / "out" / ".scores-left" / "000000.npz").write_bytes(b"")
    if overwrite:
        (tmp_path / "out" / "metrics.json").write_text("half")
    outcome = replay(drive(frames=1), **({"overwrite": True} if overwrite else {}))
    assert outcome.status == 0, outcome.text
    assert [path.name for path in outcome.folder.iterdir() if path.name.startswith((".", "unfinished"))] == []


def test_existing_bag_is_not_overwritten(tmp_path):
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "drive.db3").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="annotated exists: remove it"):
        BagWriter(tmp_path / "annotated")
    assert files(tmp_path) == {"annotated/drive.db3": b"mine"}


def test_a_bag_may_not_be_among_its_results(drive, replay):
    bag = drive(name="out/annotated")
    before = files(bag.path)
    for options, why in (({}, "must be empty"), ({"overwrite": True}, "must not contain an input")):
        outcome = replay(bag, **options)
        assert outcome.status == 1
        assert why in str(outcome.exception)
    assert files(bag.path) == before


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize(
    ("name", "topic", "status", "what"),
    [
        ("upper.MCAP", "/cam/image_raw", 0, "frames processed"),
        ("h_shortname.mcap", "/cam/image_raw", 0, "frames processed"),
        ("empty", "/cam/image_raw", 1, "/cam/image_raw has no messages"),
        ("zero", "/cam/image_raw", 1, "mcap_plain.mcap: is empty"),
    ],
)
def test_bags_with_unusual_names_or_nothing_in_them(replay, name, topic, status, what):
    outcome = replay(CASES / name, image_topic=topic)
    assert outcome.status == status, outcome.text
    assert what in outcome.text


def test_a_folder_of_that_name_does_not_hide_the_built_in_model(tmp_path, monkeypatch):
    from eomt_ext_ros.replay.command import _absolute

    monkeypatch.chdir(tmp_path)
    for name in ("demo", "model"):
        (tmp_path / name).mkdir()
    assert [_absolute(name) for name in ("demo", "model", "", "hf://a/b")] == [
        "demo",
        str(tmp_path / "model"),
        "",
        "hf://a/b",
    ]


def test_the_summary_names_the_files_where_they_end_up(drive, replay):
    bag = drive(frames=1)
    for more in ({}, {"overwrite": True}):
        outcome = replay(bag, **more)
        assert f"report: {outcome.folder / 'report.html'}" in outcome.text
