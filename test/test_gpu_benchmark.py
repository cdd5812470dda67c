"""That the program for a GPU runs on any machine, keeps what it has, and never shows a figure that was not measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# without the tests, which would be collected in a process each
IN_PROCESS = ("frames", "kernel", "beside", "official", "probe", "others", "cameras", "memory", "profile", "resources")


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield lambda module: importlib.import_module(f"benchmarks.{module}")


@pytest.fixture(scope="module")
def quick_run(benchmark, tmp_path_factory):
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("gpu")
    code = benchmark("gpu").main(
        ["--quick", "--device", "cpu", "--output", str(folder), "--parts", ",".join(IN_PROCESS)]
    )
    return code, json.loads((folder / "gpu.json").read_text())


def test_a_quick_run_measures_every_part(quick_run):
    code, result = quick_run
    assert {name: part.get("traceback") for name, part in result["parts"].items()} == dict.fromkeys(IN_PROCESS)
    assert code == 0


def test_its_figures_are_of_what_they_say(quick_run):
    parts = {name: part["figures"] for name, part in quick_run[1]["parts"].items()}
    frame = parts["frames"]["tiny"]["128x72"]
    assert (frame["windows"], frame["frames"]) == (2, 3)
    assert 0 < frame["p50_ms"] <= frame["p99_ms"]
    assert frame["in_flight"]["frames"] == 3
    assert parts["kernel"]["tiny"]["torch, float32"]["largest_logit_error"] < 1e-5
    assert parts["beside"]["128x72"]["ours-fp32"]["largest_difference"] < 1e-5
    assert parts["memory"]["frames"] == 3
    assert parts["profile"]["kernels"] > 100


@pytest.mark.parametrize("measured", [True, False], ids=["a quick run", "nothing"])
def test_without_a_gpu_the_page_shows_resources_and_no_speed(benchmark, quick_run, measured, monkeypatch):
    page = benchmark("gpu_page")
    resources = quick_run[1]["parts"]["resources"]
    monkeypatch.setattr(page, "run_here", lambda name, setting: resources)
    text = page.section(quick_run[1] if measured else None)
    assert text.startswith("Not measured")
    assert "sm_80" in text
    assert " ms" not in text


def test_the_page_keeps_the_rest_of_the_guide(benchmark, quick_run, tmp_path, monkeypatch):
    page = benchmark("gpu_page")
    guide = tmp_path / "performance.md"
    guide.write_text(f"before\n{page.BEGIN}old\n{page.END}after\n")
    (tmp_path / "gpu.json").write_text(json.dumps(quick_run[1]))
    monkeypatch.setattr(sys, "argv", ["gpu_page.py", str(tmp_path), "--page", str(guide)])
    page.main()
    text = guide.read_text()
    assert text.startswith(f"before\n{page.BEGIN}Not measured")
    assert text.endswith(f"{page.END}after\n")
    assert "old" not in text


def test_the_goals_say_what_is_met_and_what_is_missed(benchmark):
    frame = {"p50_ms": 2.0, "p99_ms": 3.0, "gflop": 900.0, "in_flight": {"ms_per_frame": 1.5}}
    measured = {"frames": {"ceiling_tflops": 800.0, "base": {"1920x1080": frame}}}
    rows = {row[0]: row[2:] for row in benchmark("gpu_parts.table").goals(measured).rows}
    assert rows["p50, ms"] == ["2", "met"]
    assert rows["p99 / p50"] == ["1.5", "missed"]
    assert rows["percentage of the ceiling, two frames in flight"] == ["75", "met"]


def test_a_part_that_takes_too_long_is_ended_and_the_others_are_kept(benchmark, tmp_path, monkeypatch):
    run = benchmark("gpu_parts.run")
    monkeypatch.setitem(run.BY_NAME, "probe", run.Part("probe", "probe:measure", 0.2, "ended while it starts"))
    result = run.run(tmp_path, ("probe", "kernel"), "cpu", True, 0.17, True, lambda line: None)
    states = {name: (part["state"], part["error"]) for name, part in result["parts"].items()}
    assert states == {"probe": ("failed", "not done after 0 s"), "kernel": ("left out", "no time was left")}
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == result["parts"]


def test_a_part_that_raises_names_what_went_wrong(benchmark, monkeypatch):
    run = benchmark("gpu_parts.run")
    monkeypatch.setattr(benchmark("gpu_parts.probe"), "measure", lambda setting: 1 / 0)
    outcome = run.run_here("probe", run.setting_of("cpu", True))
    assert (outcome["state"], outcome["error"]) == ("failed", "ZeroDivisionError: division by zero")


def test_every_test_that_needs_a_gpu_is_among_those_it_runs(benchmark):
    tests = benchmark("gpu_parts.tests")
    names = {path.relative_to(ROOT / "test/core").as_posix() for path in tests.files()}
    assert names == {"engine/test_gpu.py", "scoring/test_fused_triton.py", "test_engine.py"}
