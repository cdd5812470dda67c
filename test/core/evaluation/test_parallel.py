import importlib.util
import json
import multiprocessing
import operator
import os
import pickle
import signal
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.errors import ConfigError, InferenceError
from eomt_ext_core.evaluation.dataset_run import DatasetRun, deal_out
from eomt_ext_core.evaluation.parallel import EvaluationWorker, evaluate_shards
from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.workers import open_workers

SCORES = ("head", "msp", "rba")


@pytest.fixture
def run(checkpoint, tmp_path):
    return DatasetRun(str(checkpoint), EngineConfig(device="cpu"), SCORES, spool_folder=tmp_path / "spool")


@pytest.fixture
def metrics_of(run, folder, tmp_path):
    """Return the bytes of metrics.json for a number of workers."""

    def evaluate(num_workers, **settings):
        shards = deal_out(run, open_datasets(folder), num_workers)
        write_report(evaluate_shards(shards, **settings), tmp_path / "report")
        return (tmp_path / "report" / "metrics.json").read_bytes()

    return evaluate


def test_processes_and_one_process_write_the_same_bytes(metrics_of, tmp_path):
    alone = metrics_of(1)
    assert len(json.loads(alone)["sets"][0]["frames"]) == 5
    assert metrics_of(2) == alone
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_ray_and_one_process_write_the_same_bytes(metrics_of):
    assert metrics_of(2, ray_address="local") == metrics_of(1)


def test_missing_ray_names_the_extra(metrics_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="install the extra 'ray'"):
        metrics_of(2, ray_address="auto")


def test_scores_are_those_of_the_engine(run, folder, checkpoint):
    (dataset,) = open_datasets(folder)
    (result,) = evaluate_shards(deal_out(run, [dataset], 1))
    image, _ = dataset.read(dataset.samples[2])
    engine = AnomalyEngine(load_model(checkpoint), run.engine)
    fraction = (engine.infer(image).probability > engine.threshold).mean()
    assert result.frames[2].mask_fraction == pytest.approx(fraction, abs=2e-3)
    assert 0 < fraction < 1
    assert set(result.latency_ms) == {"0", "1", "2", "3", "4"}


def test_progress_and_several_sets(run, folder, write_image):
    for name in ("second", "third"):
        write_image(folder.parent / name / "images" / "x.png")
        write_image(folder.parent / name / "labels_masks" / "x.png", labels=(0, 1))
    seen = []
    results = evaluate_shards(deal_out(run, open_datasets(folder.parent), 1), progress=seen.append)
    assert [(result.name, len(result.frames)) for result in results] == [("plain", 5), ("second", 1), ("third", 1)]
    assert seen[-1] == 7
    assert seen == sorted(seen)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_worker_error_is_raised_here(num_workers, run, folder, tmp_path):
    broken = replace(run, scores=("head", "mps"))
    with pytest.raises(ConfigError, match="mps"):
        evaluate_shards(deal_out(broken, open_datasets(folder), num_workers))
    assert not list((tmp_path / "spool").iterdir())


def test_unreadable_frame_is_skipped(run, folder, write_image, tmp_path):
    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    (folder / "images" / "1.png").write_bytes(jpeg[: len(jpeg) // 2])
    write_image(folder / "labels_masks" / "3.png", (64, 64), labels=(0, 9))
    (folder / "labels_masks" / "4.png").write_bytes(b"")
    shards = [shard for (shard,) in deal_out(run, open_datasets(folder), 2)]
    (result,) = evaluate_shards([shards])
    assert [frame.frame_id for frame in result.frames] == ["0", "2"]
    assert result.num_found == 5
    assert list(result.skipped) == ["1", "3", "4"]
    for problem, expected in zip(
        result.skipped.values(), ("images/1.png: a JPEG", "got 9", "4.png is empty"), strict=True
    ):
        assert expected in problem
    write_report(result, tmp_path / "report")
    stored = json.loads((tmp_path / "report" / "metrics.json").read_text())["sets"][0]
    assert (stored["num_found_frames"], stored["num_frames"], stored["skipped"]) == (5, 2, result.skipped)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "2 of 5 frames" in page
    assert "4.png is empty" in page


def test_unpicklable_error_is_reported_with_its_place():
    shard = SimpleNamespace(evaluate=partial(operator.getitem, {}))  # a KeyError of a method, which cannot be pickled
    with pytest.raises(InferenceError, match=r"^unexpected KeyError: .*\(parallel\.py, line \d+; ") as error:
        EvaluationWorker().evaluate([shard])
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_crashed_worker_is_reported():
    others = set(multiprocessing.active_children())
    with open_workers(EvaluationWorker, 2) as workers:
        for process in set(multiprocessing.active_children()) - others:
            os.kill(process.pid, signal.SIGSEGV)
        with pytest.raises(InferenceError, match=r"^a worker process crashed \(SIGSEGV\); the results"):
            workers[0].call("num_done")


def test_stopping_keeps_results_so_far(run, folder):
    (shards,) = deal_out(run, open_datasets(folder), 1)
    left = iter([True, False])
    with shards[0].evaluate(lambda: next(left)) as evaluator:
        assert [frame.frame_id for frame in evaluator.result().frames] == ["0", "1"]
