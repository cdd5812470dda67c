"""The README: its code runs, its figures are those of the benchmarks, its commands exist."""

import re
from pathlib import Path

import cv2
import pytest

from eomt_ext_core.scenes import SceneConfig, render_scene

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_ten_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("road.png", render_scene(3, SceneConfig(size_hw=(135, 240))).image_rgb[..., ::-1])
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    exec(compile(code, "README.md", "exec"), {})
    assert cv2.imread("overlay.png").shape == (135, 240, 3)


def test_figures_are_those_of_the_benchmarks() -> None:
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    names = {"Fishyscapes Static": "FS Static", "Fishyscapes Lost & Found": "FS LaF"}
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d.+) \| (\d.+) \|$", README, re.MULTILINE)
    assert len(rows) == 4
    for name, frames, auprc, fpr95 in rows:
        section = benchmarks.split(f"### {names.get(name, name)}: {frames} frames")[1]
        assert f"| head | {auprc} | {fpr95} |" in section.split("###")[0]


def test_commands_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)) <= set(targets)
    launch_file, names = re.findall(r"^ros2 launch eomt_ext_ros (\S+) (.+)$", README, re.MULTILINE)[0]
    text = (ROOT / "launch" / launch_file).read_text("utf-8")
    for name in re.findall(r"(\w+):=", names):
        assert f'"{name}"' in text
