"""Tables of a run, for the terminal and for the guide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

Figures = Mapping[str, Any]
_MISSING = "–"
_GOAL_IMAGE = "1920x1080"


class Table(NamedTuple):
    """A titled table of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(result: Figures) -> Iterator[Table]:
    """Make the tables of whatever was measured, the most important first."""
    measured = {name: part["figures"] for name, part in result["parts"].items() if part.get("figures")}
    if not result["quick"] and (of_goals := goals(measured)).rows:
        yield of_goals
    for name, figure, make in (
        ("frames", "ceiling_tflops", _frames),
        ("others", "", _others),
        ("kernel", "", _kernel),
        ("beside", "", _beside),
        ("official", "", _official),
        ("probe", "", _probe),
        ("cameras", "", _cameras),
        ("memory", "", _memory),
        ("profile", "kernels", _profile),
        ("profile", "places", _places),
        ("resources", "", resources),
    ):
        if name in measured and (not figure or figure in measured[name]):
            yield make(measured)
    yield Table("Parts", ("part", "state", "s", ""), [_part(name, part) for name, part in result["parts"].items()])


def show(result: Figures) -> None:
    """Print all tables."""
    console = Console()
    for table in tables(result):
        printed = RichTable(title=table.title, title_justify="left", box=None, pad_edge=False)
        for column in table.columns:
            printed.add_column(column)
        for row in table.rows:
            printed.add_row(*row)
        console.print(printed)


def goals(measured: Figures) -> Table:
    """Set the goals for ViT-B at 1920×1080 on an H100 or H200 beside what was measured of them."""
    rows, ceiling = [], measured.get("frames", {}).get("ceiling_tflops")
    for model in list(_models(measured.get("frames", {})).values())[:1]:
        if frame := model.get(_GOAL_IMAGE):
            in_flight_ms = frame["in_flight"]["ms_per_frame"]
            rows += [
                _goal("p50, ms", 2.5, frame["p50_ms"]),
                _goal("p99 / p50", 1.2, frame["p99_ms"] / frame["p50_ms"]),
                _goal("percentage of the ceiling, one by one", 50, _percentage(frame, frame["p50_ms"], ceiling), True),
                _goal("percentage of the ceiling, two in flight", 50, _percentage(frame, in_flight_ms, ceiling), True),
            ]
    if ways := measured.get("beside", {}).get(_GOAL_IMAGE):
        rows.append(_goal("times literal-fp32", 8, ways["literal-fp32"]["p50_ms"] / ways["ours-bf16"]["p50_ms"], True))
    for case in list(measured.get("kernel", {}).values())[:1]:
        if scorer := case.get("triton, bfloat16"):
            rows.append(_goal("scoring, ms for each window", 0.12, scorer["us_per_window"] / 1000))
    if two := measured.get("official", {}).get("2 windows"):
        ratio = two["ours_network_and_scoring_ms"] / two["compiled_network_ms"]
        rows.append(_goal("network and scoring / compiled network alone", 1.1, ratio))
    return Table("Goals", ("ViT-B, 1920×1080, two windows", "goal", "measured", ""), rows)


def _goal(name: str, goal: float, value: float, at_least: bool = False) -> list[str]:
    met = value >= goal if at_least else value <= goal
    return [name, f"{'≥' if at_least else '≤'} {goal:g}", f"{value:.3g}", "met" if met else "missed"]


def _percentage(frame: Figures, ms: float, ceiling_tflops: float) -> float:
    return 100 * frame["gflop"] / ms / ceiling_tflops


def _models(frames: Figures) -> dict[str, Figures]:
    return {name: model for name, model in frames.items() if name != "ceiling_tflops"}


def _frames(measured: Figures) -> Table:
    ceiling = measured["frames"]["ceiling_tflops"]
    title = f"Frames, from array to arrays; ceiling {ceiling:.3g} TFLOP/s"
    return _of_frames(title, _models(measured["frames"]), ceiling)


def _others(measured: Figures) -> Table:
    ceiling = measured.get("frames", {}).get("ceiling_tflops")
    return _of_frames("Frames of other models", measured["others"], ceiling)


def _of_frames(title: str, models: Figures, ceiling: float | None) -> Table:
    rows = []
    for name, model in models.items():
        for size in [key for key in model if re.fullmatch(r"\d+x\d+", key)]:
            frame, in_flight_ms = model[size], model[size]["in_flight"]["ms_per_frame"]
            stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in frame["stages_ms"].items())
            used = [_percentage(frame, ms, ceiling) if ceiling else None for ms in (frame["p50_ms"], in_flight_ms)]
            rows.append([
                name, size.replace("x", "×"), str(frame["windows"]), f"{frame['p50_ms']:.2f}", f"{frame['p99_ms']:.2f}",
                f"{in_flight_ms:.2f}", *(_MISSING if each is None else f"{each:.0f}" for each in used), stages,
            ])  # fmt: skip
    columns = (
        "model",
        "image",
        "windows",
        "p50 ms",
        "p99 ms",
        "two in flight ms",
        "ceiling %",
        "in flight %",
        "stages ms",
    )
    return Table(title, columns, rows)


def _kernel(measured: Figures) -> Table:
    rows = [
        [case, name, f"{of['us_per_window']:.0f}", f"{of['largest_logit_error']:.1e}",
         f"{of['largest_probability_error']:.1e}"]
        for case, scorers in measured["kernel"].items() for name, of in scorers.items()
    ]  # fmt: skip
    return Table("Scoring beside float64", ("model", "scorer", "µs/window", "max |Δlogit|", "max |Δp|"), rows)


def _beside(measured: Figures) -> Table:
    rows = []
    for size, ways in measured["beside"].items():
        if size != "model":
            slowest = ways["literal-fp32"]["p50_ms"]
            rows += [
                [size.replace("x", "×"), way, f"{of['p50_ms']:.2f}", f"{slowest / of['p50_ms']:.1f}",
                 _MISSING if of["largest_difference"] is None else f"{of['largest_difference']:.1e}"]
                for way, of in ways.items()
            ]  # fmt: skip
    return Table("Beside other ways, taking turns", ("image", "way", "p50 ms", "times literal-fp32", "max |Δp|"), rows)


def _official(measured: Figures) -> Table:
    rows = [
        [count, f"{of['compiled_network_ms']:.2f}", f"{of['ours_network_and_scoring_ms']:.2f}"]
        for count, of in measured["official"].items() if count != "model"
    ]  # fmt: skip
    return Table("torch.compile, max-autotune", ("", "its network ms", "our network and scoring ms"), rows)


def _probe(measured: Figures) -> Table:
    rows = []
    for name, of in measured["probe"].items():
        least, most = of["predicted_us"]
        predicted = f"{least:g}" if least == most else f"{least:g}–{most:g}"
        found = f"{of['measured_us']:.0f}" if "measured_us" in of else of["error"]
        rows.append([name, predicted, found, "off" if of.get("suspicious") else ""])
    return Table("Pieces of a frame, for an H100", ("piece", "predicted µs", "measured µs", ""), rows)


def _cameras(measured: Figures) -> Table:
    rows = [
        [name, f"{of['p50_ms']:.2f}", f"{of['p99_ms']:.2f}", f"{6000 / of['p50_ms']:.0f}"]
        for name, of in measured["cameras"].items()
    ]  # fmt: skip
    return Table("Six cameras of 960×540 at once", ("model", "p50 ms", "p99 ms", "images/s"), rows)


def _memory(measured: Figures) -> Table:
    of = measured["memory"]
    rows = [[name, str(of["before"][name]), str(of["after"][name])] for name in of["before"]]
    return Table(f"Memory over {of['frames']} frames", ("", "before", "after"), rows)


def _places(measured: Figures) -> Table:
    counted = ("operators", "allocates", "copies", "waits")
    rows = [[place, *(str(of[name]) for name in counted)] for place, of in measured["profile"]["places"].items()]
    return Table("One frame by place, without what a CUDA graph replays", ("function", *counted), rows)


def _profile(measured: Figures) -> Table:
    of = measured["profile"]
    rows = [[name, str(count), _MISSING] for name, count in of["calls"].items()]
    rows += [[row["name"], str(row["count"]), f"{row['us']:.0f}"] for row in of["rows"]]
    return Table(f"One frame: {of['kernels']} kernels, {of['device_us']:.0f} µs", ("", "times", "µs"), rows)


def resources(measured: Figures) -> Table:
    """Lay out the kernels' resources: registers / spilled bytes / shared KiB and the kind of product."""
    kernels = measured["resources"]["kernels"]
    columns = list(next(iter(kernels.values())))
    rows = [
        [name, *(f"{of['registers']}/{of['spilled']}/{of['shared'] / 1024:.0f} {of['product']}" for of in by.values())]
        for name, by in kernels.items()
    ]  # fmt: skip
    title = f"Kernels, Triton {measured['resources']['triton']}: registers / spilled bytes / shared KiB, product"
    return Table(title, ("kernel", *columns), rows)


def _part(name: str, part: Figures) -> list[str]:
    seconds = f"{part['seconds']:.0f}" if "seconds" in part else _MISSING
    outcome = part.get("error", "")
    if "outcome" in part.get("figures", {}):
        outcome = part["figures"]["outcome"]
    return [name, part["state"], seconds, outcome]
