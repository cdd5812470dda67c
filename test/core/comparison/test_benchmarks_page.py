"""The page of benchmark figures: everything on it comes from the runs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from eomt_ext_core.comparison.runs import Run
from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.run import Evaluator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_under_test", ROOT / "docs" / "benchmarks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with Evaluator(["head", "msp"], name="RoadAnomaly") as evaluator:
        for seed in range(4):
            labels = np.zeros((40, 40), np.uint8)
            labels[5:35, 5:35] = 1
            noise = np.random.default_rng(seed).uniform(0, 0.4, labels.shape).astype(np.float32)
            scores = {"head": (noise + np.float32(0.5) * (labels == 1)).astype(np.float32), "msp": noise}
            evaluator.update(f"cow_{seed}", np.zeros((40, 40, 3), np.uint8), scores, labels)
        record = {"engines": [{"precision": "fp32", "checkpoint_sha256": "abc"}], "date": "2026-01-01T00:00:00Z"}
        write_report(evaluator.result(), tmp_path, {"checkpoint": "model.safetensors"}, record)
    return Run.read(tmp_path)


def test_every_score_has_its_figures_and_intervals(program: ModuleType, run: Run) -> None:
    text = "".join(program.page([run]))
    assert "### RoadAnomaly: 4 frames" in text
    rows = {
        line.split(" | ")[0]: line.split(" | ")[1:]
        for line in text.splitlines()
        if line.startswith(("| head", "| msp"))
    }
    assert rows["| head"][0] == "100.0 [100.0, 100.0]", "its scores tell every pixel"
    exact = f"{100 * run.sets['RoadAnomaly'].value('msp', 'auprc'):.1f} ["
    assert rows["| msp"][0].startswith(exact)
    assert all(len(cells) == 5 for cells in rows.values())


def test_frames_machine_and_model_are_on_the_page(program: ModuleType, run: Run) -> None:
    text = "".join(program.page([run]))
    assert "cow_0, cow_1, cow_2, cow_3" in text
    assert "| model, SHA-256 | abc |" in text
    assert "| RoadAnomaly | 60 | 4 |" in text
    assert "| RoadAnomaly21 | 10 | none |" in text


def test_the_committed_page_has_the_text_of_the_program(program: ModuleType) -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8").startswith(program.HEAD), (
        "run: python docs/benchmarks.py"
    )
