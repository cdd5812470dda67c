"""That the program for a GPU runs on any machine, keeps what it has, and never shows a figure that was not measured."""

import importlib
import json
import os
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
    places = parts["profile"]["places"]
    assert places["windows.py, crop"] == {"operators": 1, "allocates": 1, "copies": 1, "waits": 0}
    assert not any(count["waits"] for count in places.values())


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
    measured = {"frames": {"ceiling_tflops": 800.0, "base": {"describe": {}, "1920x1080": frame}}}
    rows = {row[0]: row[2:] for row in benchmark("gpu_parts.table").goals(measured).rows}
    assert rows["p50, ms"] == ["2", "met"]
    assert rows["p99 / p50"] == ["1.5", "missed"]
    assert rows["percentage of the ceiling, two in flight"] == ["75", "met"]


def test_a_part_that_fails_keeps_what_it_has(benchmark, monkeypatch):
    run, kept = benchmark("gpu_parts.run"), []

    def measure(setting):
        yield {"a": 1}
        yield {"b": 2}
        raise ValueError("no more")

    monkeypatch.setattr(benchmark("gpu_parts.probe"), "measure", measure)
    outcome = run.run_here("probe", run.setting_of("cpu", True), lambda found: kept.append(dict(found["figures"])))
    assert (outcome["state"], outcome["error"]) == ("failed", "ValueError: no more")
    assert outcome["figures"] == kept[1] == {"a": 1, "b": 2}
    assert kept[0] == {"a": 1}


@pytest.mark.parametrize("end", ["its time", "Ctrl-C"])
def test_a_part_that_is_ended_in_its_middle_keeps_what_it_has(benchmark, tmp_path, monkeypatch, end):
    run = benchmark("gpu_parts.run")
    entry = tmp_path / "entry.py"
    signalled = f"os.kill({os.getpid()}, signal.SIGINT)" if end == "Ctrl-C" else ""
    entry.write_text(
        "import json, os, pathlib, signal, sys, time\n"
        "file = pathlib.Path(sys.argv[sys.argv.index('--into') + 1])\n"
        "file.write_text(json.dumps({'state': 'measured', 'figures': {'ceiling_tflops': 7.0}}))\n"
        f"{signalled}\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(run, "ENTRY", entry)
    monkeypatch.setitem(run.BY_NAME, "frames", run.Part("frames", "frames:measure", 1.5, "ended in its middle"))
    names = ("frames",) if end == "its time" else ("frames", "probe")
    result = run.run(tmp_path, names, "cpu", False, 8.0, True, print)
    frames = result["parts"].pop("frames")
    why = "not done after 2 s" if end == "its time" else "interrupted"
    assert (frames["state"], frames["error"], frames["figures"]) == ("cut short", why, {"ceiling_tflops": 7.0})
    assert [part["state"] for part in result["parts"].values()] == ["left out"] * (len(names) - 1)
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == {"frames": frames, **result["parts"]}


FRAME = {
    "windows": 2, "gflop": 900.0, "p50_ms": 2.0, "p99_ms": 3.0, "stages_ms": {"upload": 0.1},
    "in_flight": {"ms_per_frame": 1.5},
}  # fmt: skip
PARTIAL = {
    "nothing": {},
    "a ceiling": {"frames": {"ceiling_tflops": 800.0}},
    "no frame of the goals": {"frames": {"ceiling_tflops": 800.0, "base": {"describe": {}}}},
    "one frame": {"frames": {"ceiling_tflops": 800.0, "base": {"describe": {}, "1920x1080": FRAME}}},
    "other models alone": {"others": {"small": {"960x540": FRAME}}},
    "half of a case": {"kernel": {"base, 19 classes": {"torch, bfloat16": dict.fromkeys(
        ("largest_logit_error", "largest_probability_error", "us_per_window"), 1.0)}}},
    "no profile yet": {"profile": {"places": {"windows.py, crop": dict.fromkeys(
        ("operators", "allocates", "copies", "waits"), 1)}}},
    "a model": {"beside": {"model": "base"}, "official": {"model": "base"}},
}  # fmt: skip


@pytest.mark.parametrize("figures", PARTIAL.values(), ids=PARTIAL.keys())
def test_the_page_of_a_run_that_was_cut_short_shows_what_there_is(benchmark, quick_run, figures, monkeypatch):
    cut = {"state": "cut short", "error": "not done", "seconds": 1.0}
    parts = {name: cut | {"figures": of} for name, of in figures.items()}
    page = benchmark("gpu_page")
    monkeypatch.setattr(page, "run_here", lambda name, setting: quick_run[1]["parts"][name])
    text = page.section({"quick": False, "machine": {"GPU": "H100"}, "parts": parts})
    assert text.count("cut short") == len(parts)
    assert ("| 2.00 |" in text) == ("p50_ms" in repr(figures))
    assert "sm_80" in text


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
