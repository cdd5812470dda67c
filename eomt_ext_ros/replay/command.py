"""``eomt-ext replay`` and ``ros2 run eomt_ext_ros replay``: run every frame of recorded bags through the engine."""

from __future__ import annotations

import functools
import itertools
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commandline.shared_options import with_shared_options
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_NOTHING
from eomt_ext_core.config import DEMO, EngineConfig, ObstacleConfig, WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.files import atomic_write, output_folder, printable
from eomt_ext_core.progress import ProgressLines, is_hidden
from eomt_ext_core.tracking import TrackingConfig
from eomt_ext_ros.bag_support import check_bag_support
from eomt_ext_ros.outputs.registry import RECORDED

if TYPE_CHECKING:
    from eomt_ext_ros.replay.job import BagJob, BagReport, ReplayConfig

_MAX_PROBLEMS = 20  # listed in the terminal and the report; all of them are in problems.txt
_MAX_OPEN_FILES = 1 << 16


def replay(
    bags: Annotated[list[Path], typer.Argument(help="rosbag2 folders, .mcap or .db3 files")],
    image_topic: Annotated[list[str], typer.Option(help="topic of raw or compressed images; once for each camera")],
    output: options.Output,
    overwrite: options.Overwrite = False,
    checkpoint: options.Checkpoint = DEMO,
    head: options.Head = None,
    scores: options.Scores = EngineConfig.score,
    normality: options.Normality = None,
    label_topic: Annotated[
        list[str] | None,
        typer.Option(help="topic of labels (mono8: 0, 1, 255) with the stamps of their images; once for each camera"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="folder of labels, such as 1700000000.123456789.png by stamp; in folders of bag and camera if several"
        ),
    ] = None,
    label_values: options.LabelMeaning = None,
    track: Annotated[str, typer.Option(help="rules of the segment metrics: anomaly or obstacle")] = "anomaly",
    start: Annotated[float, typer.Option(help="skip this many seconds of the bag", min=0)] = 0.0,
    duration: Annotated[float | None, typer.Option(help="seconds to replay; by default to the end")] = None,
    every: Annotated[int, typer.Option(help="replay every n-th frame of a topic", min=1)] = 1,
    outputs: Annotated[str, typer.Option(help="outputs to write to the annotated bag")] = ",".join(RECORDED),
    threshold: options.Threshold = EngineConfig.threshold,
    threshold_low: options.ThresholdLow = ObstacleConfig.threshold_low,
    min_area_px: options.MinArea = ObstacleConfig.min_area_px,
    tracking: options.Tracking = TrackingConfig.enabled,
    confirmed_only: options.ConfirmedOnly = ObstacleConfig.confirmed_only,
    camera_info_topic: Annotated[
        str, typer.Option(help="topic of the camera's calibration: obstacles get a range in metres, with --height-m")
    ] = "",
    height_m: Annotated[float | None, typer.Option(help="height of the camera above the ground, in metres")] = None,
    pitch_deg: Annotated[float | None, typer.Option(help="pitch of the camera, nose down is positive")] = None,
    roll_deg: Annotated[float | None, typer.Option(help="roll of the camera, right side down is positive")] = None,
    rectified: Annotated[
        bool, typer.Option("--rectified", help="the images are rectified: use P, not K and D")
    ] = False,
    explain: options.Explain = True,
    device: options.Device = EngineConfig.device,
    backend: options.Backend = EngineConfig.backend,
    precision: options.Precision = EngineConfig.precision,
    windows: options.Windows = WindowConfig.mode,
    blend: options.Blend = WindowConfig.blend,
    overlap: options.Overlap = WindowConfig.overlap,
    scale: options.Scale = WindowConfig.scale,
    horizon: options.Horizon = WindowConfig.horizon,
    fovea: options.Fovea = WindowConfig.fovea,
    threads: Annotated[int, typer.Option(help="CPU threads for each bag; 0: torch's default", min=0)] = 0,
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Run every frame of recorded bags through the engine, offline.

    Writes an annotated bag, overlay.mp4 and obstacles.csv for each bag, and metrics.json, timing.json and report.html
    for all of them. The annotated bag holds the first of the scores. Exit status: 0: complete; 1: no frame was
    processed; 3: something could not be read or processed, all other results are kept; 130: interrupted, the results so
    far are kept.
    """
    check_bag_support("replay")
    import torch

    from eomt_ext_core.datasets.labels import PLAIN_LABELS, LabelValues
    from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, OBSTACLE_TRACK
    from eomt_ext_core.ground import GroundConfig
    from eomt_ext_ros.parameters.node_config import NodeConfig
    from eomt_ext_ros.replay.job import ReplayConfig

    tracks = {known.name: known for known in (ANOMALY_TRACK, OBSTACLE_TRACK)}
    if track not in tracks:
        raise ConfigError(f"--track must be one of {', '.join(tracks)}, got {track!r}")
    if not camera_info_topic and (pitch_deg is not None or roll_deg is not None or rectified):
        raise ConfigError("--pitch-deg, --roll-deg and --rectified locate obstacles: give --camera-info-topic too")
    names = options.score_names(scores)
    window_config = WindowConfig(windows, blend, overlap, scale, horizon, fovea)
    engine = EngineConfig(device, backend, precision, score=names[0], threshold=threshold, windows=window_config)
    options.check_sources(checkpoint, head, normality, download=False)
    config = ReplayConfig(
        node=NodeConfig(
            checkpoint=_absolute(checkpoint),
            head=_absolute("" if head is None else str(head)),
            normality=_absolute("" if normality is None else str(normality)),
            engine=engine,
            obstacles=ObstacleConfig(threshold_low, min_area_px, confirmed_only=confirmed_only),
            tracking=TrackingConfig(enabled=tracking),
            ground=GroundConfig(
                height_m=height_m or GroundConfig.height_m,
                pitch_deg=pitch_deg or GroundConfig.pitch_deg,
                roll_deg=roll_deg or GroundConfig.roll_deg,
                rectified=rectified,
            ),
        ),
        image_topics=tuple(image_topic),
        scores=names,
        label_topics=tuple(label_topic or ()),
        labels=labels.resolve() if labels else None,
        start_s=start,
        duration_s=duration,
        every=every,
        outputs=tuple(name.strip() for name in outputs.split(",") if name.strip()),
        track=tracks[track],
        threads=threads or torch.get_num_threads(),
        label_values=PLAIN_LABELS if label_values is None else LabelValues.parse(label_values),
        explain=explain,
        info_topic=camera_info_topic,
    )
    with output_folder(output.resolve(), overwrite, bags, stale=("problems.txt",)) as folder:
        # A run that is killed leaves its spool behind; in the output folder the next run finds and deletes it.
        status, is_complete, result = run(bags, folder, config, workers, ray, target=output.resolve())
        if not is_complete:
            print_result({"output": folder, **result})
            raise typer.Exit(status)
    print_result({"output": output, **result})
    if status:
        raise typer.Exit(status)


def run(
    bags: Sequence[Path],
    output: Path,
    config: ReplayConfig,
    workers: int | None = None,
    ray_address: str | None = None,
    target: Path | None = None,
) -> tuple[int, bool, dict[str, Any]]:
    """Replay bags and write the results to ``output``; the caller moves them to ``target`` if they are complete.

    Returns:
        the exit status; whether every bag was replayed to its end; the frames of each bag and the problems.
    """
    from eomt_ext_ros.replay.many import replay_bags, stoppable

    _raise_open_file_limit()
    console = Console(stderr=True)
    jobs = _jobs(bags, output, config, target or output)
    with stoppable(jobs[0].stop_file):
        with _progress(console, len(jobs)) as (frame_done, bag_done):
            reports = replay_bags(jobs, workers, ray_address, frame_done, bag_done)
        with console.status("writing the report"):
            _write_results(reports, jobs, output)
    ended_early = len(reports) < len(jobs) or any(report.error or report.interrupted for report in reports)
    status = _status(reports, len(jobs))
    is_complete = not ended_early and status in (0, EXIT_INCOMPLETE)
    _print_summary(console, reports, output, shown=target if is_complete and target else output)
    counts = [{"name": item.name, "frames": item.num_frames, "processed": item.num_processed} for item in reports]
    result = {"bags": counts, "problems": _problems(reports)}
    return status, is_complete, result


def _raise_open_file_limit() -> None:
    """Allow enough open files for a recording of a day that is split every minute."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _jobs(bags: Sequence[Path], output: Path, config: ReplayConfig, spool_folder: Path) -> list[BagJob]:
    from eomt_ext_ros.replay.job import BagJob

    jobs: list[BagJob] = []
    taken: set[str] = set()
    for bag in bags:
        path = bag.resolve()
        stem = path.name.split(".")[0] if path.is_file() else path.name
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        folder = output / name if len(bags) > 1 else output
        jobs.append(BagJob(path, name, folder, output / ".stop", spool_folder, config))
    return jobs


def _write_results(reports: Sequence[BagReport], jobs: Sequence[BagJob], output: Path) -> None:
    """Merge the evaluations of all bags, in order, and write problems.txt and the report."""
    from eomt_ext_core.commands.evaluate import record_of
    from eomt_ext_core.evaluation.report import said_by_engines, write_report
    from eomt_ext_core.evaluation.run import Evaluator

    problems = _problems(reports)
    if problems:
        details = [report.error for report in reports if "\n" in report.error]
        with atomic_write(output / "problems.txt") as temporary:
            temporary.write_text("\n".join([*problems, *details]) + "\n", "utf-8", "backslashreplace")
    evaluators = [report.evaluator for report in reports if report.evaluator is not None]
    if not evaluators:
        return
    config, setup = jobs[0].config, evaluators[0].setup
    about: dict[str, Any] = {
        "checkpoint": Path(config.node.checkpoint).name,
        "image topics": list(config.image_topics),
        "bags": {printable(report.name): f"{report.num_processed} of {report.num_frames} frames" for report in reports},
    }
    if problems:
        more = [f"and {len(problems) - _MAX_PROBLEMS} more, in problems.txt"] if len(problems) > _MAX_PROBLEMS else []
        about["problems"] = problems[:_MAX_PROBLEMS] + more
    settings: dict[str, Any] = {
        "track": setup.track,
        "mask_threshold": setup.mask_threshold,
        "spool_folder": jobs[0].spool_folder,
    }
    with Evaluator(setup.scores, name=setup.name, **settings) as merged:
        for evaluator in evaluators:
            merged.merge(evaluator)
        result = merged.result()
        about |= {name: said_by_engines([result], name) for name in ("precision", "threshold")}
        if not result.scores:  # nothing was evaluated
            about["title"] = "Road anomalies found"
        write_report(result, output, about, record_of([result], config.scores))


def _problems(reports: Sequence[BagReport]) -> list[str]:
    lines = [f"no AuPRC, FPR95 or AUROC: {problem}"] if (problem := _label_problem(reports)) else []
    for report in reports:
        name = printable(report.name)
        lines += [f"{name}: {problem}" for problem in (*report.problems, *report.notes)]
        if report.error:
            more = "; the traceback is in problems.txt" if "\n" in report.error else ""
            lines.append(f"{name}: ended early: {report.error.strip().splitlines()[-1]}{more}")
        if report.interrupted:
            lines.append(f"{name}: interrupted")
    # Names of topics and types come from the bag: never print their line breaks or escape sequences.
    return ["".join(part if part.isprintable() else "\ufffd" for part in line) for line in lines]


def _label_problem(reports: Sequence[BagReport]) -> str:
    """Explain why the labels of all bags cannot be evaluated; empty if they can."""
    from eomt_ext_core.datasets.labels import LabelCensus

    census = LabelCensus()
    for report in reports:
        census.merge(report.census)
    return census.problem() if census.num_maps else ""


def _print_summary(console: Console, reports: Sequence[BagReport], output: Path, shown: Path) -> None:
    """Print the problems and the summary, with the files as if they were in ``shown``."""
    num_processed = sum(report.num_processed for report in reports)
    num_frames = sum(report.num_frames for report in reports)
    problems = _problems(reports)
    for problem in problems[:_MAX_PROBLEMS]:
        console.print(problem, style="yellow", markup=False, soft_wrap=True)
    if len(problems) > _MAX_PROBLEMS:
        file = escape(printable(shown / "problems.txt"))
        console.print(f"and {len(problems) - _MAX_PROBLEMS} more problems, in {file}", soft_wrap=True)
    console = Console(stderr=True, quiet=is_hidden())
    console.print(f"{num_processed} of {num_frames} frames processed")
    for what, name in (("metrics", "metrics.json"), ("report", "report.html")):
        if (output / name).exists():
            console.print(f"{what}: {escape(printable(shown / name))}", soft_wrap=True)


def _status(reports: Sequence[BagReport], num_bags: int) -> int:
    """The exit status."""
    if any(report.interrupted for report in reports):
        return EXIT_INTERRUPTED
    if not any(report.num_processed for report in reports):
        return EXIT_NOTHING
    is_complete = len(reports) == num_bags and all(report.is_complete for report in reports)
    return 0 if is_complete and not _label_problem(reports) else EXIT_INCOMPLETE


@contextmanager
def _progress(console: Console, num_bags: int) -> Iterator[Any]:
    if is_hidden():
        yield lambda done, total: None, lambda report: None
        return
    if not console.is_terminal:
        bags_lines = ProgressLines("bags", num_bags)
        frames_of = functools.cache(functools.partial(ProgressLines, "frames of a bag"))
        finished = itertools.count(1)
        yield lambda done, total: frames_of(total).update(done), lambda report: bags_lines.update(next(finished))
        return
    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    ]  # fmt: skip
    with Progress(*columns, console=console) as bar:
        bags = bar.add_task("bags", total=num_bags)
        frames = bar.add_task("frames", total=None, visible=False)
        yield (
            lambda done, total: bar.update(frames, completed=done, total=total, visible=True),
            lambda report: bar.advance(bags),
        )


def _absolute(source: str) -> str:
    """Make an existing path absolute, as other processes need it; leave alone other names and the built-in model."""
    is_path = source not in ("", DEMO) and Path(source).exists()
    return str(Path(source).resolve()) if is_path else source


def main() -> None:
    """Run the executable of ``ros2 run``."""
    with exit_on_error("replay"):
        typer.run(with_shared_options(replay))


if __name__ == "__main__":
    main()
