"""Two runs over the same frames, through the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eomt_ext_core.cli import app
from eomt_ext_core.commands.compare import _difference_table
from eomt_ext_core.comparison.compare import (
    Difference,
    changed_frames,
    check_same_frames,
    common_scores,
    differences,
    same_score,
)
from eomt_ext_core.comparison.runs import Run
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evaluation import OBSTACLE_TRACK
from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.intervals.bootstrap import Interval

SIDE, FRAMES = 32, 12
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a run whose anomalies score higher by ``strength``, with the noise of each frame's own seed."""

    def make(
        name: str, strength: float, *, frames: int = FRAMES, score: str = "head", labelled: bool = True, void: int = 0
    ) -> Path:
        with Evaluator([score], name="street", track=OBSTACLE_TRACK) as evaluator:
            for seed in range(frames):
                labels = np.zeros((SIDE, SIDE), np.uint8)
                labels[8:20, 8:20], labels[:void] = 1, 255
                noise = np.random.default_rng(seed).normal(size=labels.shape)
                values = (1 / (1 + np.exp(-noise - strength * (labels == 1)))).astype(np.float32)
                image = np.zeros((SIDE, SIDE, 3), np.uint8)
                evaluator.update(f"{seed:02d}", image, {score: values}, labels if labelled else None)
            write_report(evaluator.result(), tmp_path / name)
        return tmp_path / name

    return make


def of(found: list[Difference], metric: str) -> Difference:
    return next(item for item in found if item.metric == metric)


def test_a_better_score_is_clearly_better(write: Write) -> None:
    weak, strong = Run.read(write("weak", 1.0)), Run.read(write("strong", 2.0) / "metrics.json")
    found = differences(weak, strong, common_scores(weak, strong))
    gain = of(found, "auprc")
    assert gain.is_clear
    assert 0 < gain.interval.low < gain.after - gain.before < gain.interval.high
    assert of(found, "fpr95").interval.high < 0


def test_a_run_compared_with_itself_changes_nothing(write: Write) -> None:
    run = Run.read(write("same", 1.0))
    for item in differences(run, run, common_scores(run, run)):
        assert item.before == item.after
        assert (item.interval.low, item.interval.high) == (0, 0)
    assert [change.change for change in changed_frames([run, run], ["head", "head"])[1]] == [0] * FRAMES


def test_the_most_changed_frame_comes_first(write: Write) -> None:
    runs = [Run.read(write(name, strength)) for name, strength in (("a", 1.0), ("b", 2.0))]
    figure, changes = changed_frames(runs, ["head", "head"])
    assert figure == "auprc"
    assert [item.change for item in changes] == sorted((item.change for item in changes), reverse=True)
    assert changes[0].values == tuple(
        run.sets["street"].frame_values("head", "auprc")[changes[0].frame_id] for run in runs
    )


def test_runs_without_labels_are_compared_by_their_masks(write: Write) -> None:
    runs = [Run.read(write(name, strength, labelled=False)) for name, strength in (("a", 1.0), ("b", 3.0))]
    (found,) = differences(*runs, common_scores(*runs))
    assert found.metric == "mask_fraction"
    assert found.is_clear
    assert changed_frames(runs, ["", ""])[0] == "mask_fraction"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": FRAMES - 1}, r"only .*a has the frame of street 11"),
        ({"void": 3}, "must have the same labels, 00 of street has"),
    ],
)
def test_runs_over_other_frames_are_refused(write: Write, changes: dict[str, int], says: str) -> None:
    runs = [Run.read(write("a", 1.0)), Run.read(write("b", 1.0, **changes))]
    with pytest.raises(ConfigError, match=says):
        check_same_frames(runs)


def test_single_scores_of_other_names_are_compared(write: Write) -> None:
    runs = [Run.read(write("a", 1.0)), Run.read(write("b", 1.0, score="msp"))]
    assert common_scores(*runs) == [("head", "msp")]


EMPTY = {"name": "x", "frames": [], "scores": {}}
DAMAGED = ["", "[]", '{"format": 1, "sets": [{"name": "x"}]}', '{"format": 1, "sets": [3]}',
           json.dumps({"format": 1, "sets": [EMPTY | {"counts": {"a": {}}}]})]  # fmt: skip


def test_runs_without_a_frame_differ_in_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"format": 1, "sets": [EMPTY]}))
    run = Run.read(tmp_path)
    assert differences(run, run, common_scores(run, run)) == []
    assert changed_frames([run, run], ["", ""])[1] == []


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ConfigError, match=r"metrics\.json"):
        Run.read(tmp_path)


def test_the_command_prints_and_gives_json(write: Write) -> None:
    paths = [str(write("a", 1.0)), str(write("b", 2.0)), str(write("c", 3.0))]
    done = CliRunner().invoke(app, ["compare", *paths, "--frames", "3"])
    assert done.exit_code == 0, done.output
    assert "AuPRC ↑" in done.output
    assert f"frames: {FRAMES}, the most changed first" in done.output
    content = json.loads(CliRunner().invoke(app, ["compare", *paths, "--json", "--frames", "3"]).output)
    assert [len(part) for part in content["differences"]] == [5, 5]
    assert len(content["frames"]["changed"]) == 3
    assert isinstance(CliRunner().invoke(app, ["compare", paths[0]]).exception, ConfigError)


@pytest.mark.parametrize(("low", "high", "mark"), [(-3e-6, -1e-6, ""), (-0.02, -0.01, "*"), (-0.02, 0.01, "")])
def test_a_difference_that_is_printed_as_zero_has_no_mark(low: float, high: float, mark: str) -> None:
    found = Difference("set", "head", "auprc", 0.5, 0.5 + low, Interval(low, high))
    cells = [column._cells[0] for column in _difference_table([found]).columns]
    assert cells[-1] == mark
    assert "-0.00" not in " ".join(map(str, cells))


def test_frames_are_put_side_by_side_by_one_score() -> None:
    head, both = [("head", "head")], [("head", "head"), ("msp", "msp")]
    assert same_score([both, head]) == ["head", "head", "head"]
    assert same_score([[("msp", "rba")]]) == ["msp", "rba"]
    assert same_score([[], []]) == ["", "", ""]
    with pytest.raises(ConfigError, match="must all share a score"):
        same_score([head, [("msp", "msp")]])


def test_runs_from_before_frames_were_counted_are_refused(write: Write) -> None:
    new, old = write("new", 1.0), write("old", 1.0)
    metrics = json.loads((old / "metrics.json").read_text())
    for part in metrics["sets"]:
        del part["counts"]
    (old / "metrics.json").write_text(json.dumps(metrics))
    result = CliRunner().invoke(app, ["compare", str(new), str(old)])
    assert result.exit_code != 0
    assert "run evaluate again" in str(result.exception)
