import json
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import pytest
from rich.console import Console

from eomt_ext_core.bench import plot
from eomt_ext_core.bench.memory import Memory
from eomt_ext_core.bench.result import BenchResult, CaseResult, Growth, GrowthPoint, Times, VariantResult
from eomt_ext_core.bench.table import tables
from eomt_ext_core.errors import ConfigError


def variant(frame_s: float | None, **stages_s: float) -> VariantResult:
    frame = None if frame_s is None else Times.of([frame_s])
    stages = {name: Times.of([seconds]) for name, seconds in stages_s.items()}
    return VariantResult(frame, stages, Memory(2**20, 3 * 2**20), 2**20, None if frame is None else 0.25, 0.5, 0.001)


@pytest.fixture
def result() -> BenchResult:
    literal, ours = variant(12.0, network=2.0, scoring=10.0), variant(2.0, network=1.5, scoring=0.5)
    variants = {"literal-fp32": literal, "transformers-fp32": variant(None, network=1.75), "ours-fp32": ours}
    case = CaseResult("base", (540, 960), 2, 8 * 10**11, 10**11, variants)
    points = [GrowthPoint((500, 1000), count, 3 * count, Times.of([0.5 * count])) for count in (1, 2)]
    growth = Growth("demo", "fp32", points, points)
    return BenchResult({"processor": "a CPU"}, "eomt-ext bench", {"fp32": 1.5e11}, [case], growth, {"ours-bf16": "why"})


def test_speedups_are_ratios_of_medians(result: BenchResult) -> None:
    case = result.cases[0]
    assert case.speedup("ours-fp32") == 6.0
    assert case.speedup("ours-fp32", "scoring") == 20.0
    assert case.speedup("transformers-fp32") is None
    without = replace(case, variants={"ours-fp32": case.variants["ours-fp32"]})
    assert without.speedup("ours-fp32") is None


def test_the_tables_tell_the_figures(result: BenchResult) -> None:
    console = Console(width=140, record=True, file=StringIO())
    console.print(tables(result))
    lines = console.export_text().splitlines()
    ours = [line.split() for line in lines if line.startswith("ours-fp32")]
    assert ours[0] == ["ours-fp32", "–", "1500", "500", "–", "–", "2000", "2000"]
    assert ours[1] == ["ours-fp32", "0.5", "6.0", "20.0", "3", "1", "50", "25", "1.0e-03"]
    assert "ours-bf16: not measured, why" in lines
    variants = {"ours-fp32": replace(variant(2.0, scoring=0.5), network_ceiling_fraction=None)}
    console.print(tables(replace(result, cases=[replace(result.cases[0], variants=variants)])))
    shares = [line.split() for line in console.export_text().splitlines() if line.startswith("ours-fp32")][1]
    assert shares[6] == "–"
    growth = [line.split() for line in lines if line.startswith("2 × 1000×500")]
    assert growth == [["2", "×", "1000×500", "1.00", "6", "1000", "1000", "2"]] * 2


def test_json_holds_everything(result: BenchResult, tmp_path: Path) -> None:
    result.write(tmp_path / "new" / "bench.json")
    read = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert read["cases"][0]["variants"]["ours-fp32"]["frame"] == {"median_s": 2.0, "p99_s": 2.0, "count": 1}
    assert read["growth"]["cameras"][1]["num_windows"] == 6
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bench.json"]


def test_the_plot_is_a_picture(result: BenchResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.write_plot(result, tmp_path / "bench.png")
    picture = cv2.imread(str(tmp_path / "bench.png"))
    assert picture.shape[1] == 1300
    assert picture.std() > 10


def test_a_missing_matplotlib_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="or pass --no-plot"):
        plot.check_plotting()
