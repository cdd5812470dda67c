"""``eomt-ext demo``: run camera, node and recorder together, and summarise the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_NOTHING, print_problems
from eomt_ext_core.config import DEMO
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import output_folder, printable
from eomt_ext_ros.bag_support import check_bag_support


def demo(
    video: Annotated[Path | None, typer.Option(help="publish the frames of a video instead of drawn scenes")] = None,
    images: Annotated[Path | None, typer.Option(help="publish the images of a folder, one second each")] = None,
    camera: Annotated[int | None, typer.Option(help="publish the camera with this number")] = None,
    frames: Annotated[int, typer.Option(help="most frames to publish; 0 for a whole video or folder", min=0)] = 150,
    rate_hz: Annotated[float, typer.Option(help="frames per second", min=0.1)] = 15.0,
    seed: Annotated[int, typer.Option(help="seed of the drawn scenes", min=0)] = 4_000_012,
    checkpoint: options.Checkpoint = DEMO,
    output: options.Output = Path("demo_output"),
    overwrite: options.Overwrite = False,
) -> None:
    """Run the real node on a road and record what it sees.

    Exit status: 0: complete; 1: no frame was processed; 3: an image, or the end of the video, could not be read.
    """
    if sum(source is not None for source in (video, images, camera)) > 1:
        raise typer.BadParameter("choose one of --video, --images and --camera")
    if frames == 0 and video is None and images is None:
        raise typer.BadParameter("--frames must be at least 1 for drawn scenes and cameras")
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"demo needs ROS 2: source a distribution, or install the extra 'ros' ({error})") from error

    check_bag_support("demo")
    options.check_sources(checkpoint, None, None, download=False)
    from eomt_ext_ros.demo.run import run_demo

    console = Console()
    source = ["--video", str(video)] if video else ["--images", str(images)] if images else []
    source += ["--camera", str(camera)] if camera is not None else []
    arguments = [*source, "--frames", str(frames), "--rate-hz", str(rate_hz), "--seed", str(seed), "--listeners", "2"]
    is_drawn = not source
    with output_folder(output, overwrite, [path for path in (video, images) if path]) as folder:
        summary = run_demo(console, arguments, frames, rate_hz, checkpoint, folder, is_drawn=is_drawn)
        if not summary["frames_received"]:
            log = escape(printable(folder / "node.log"))
            console.print(f"[red]The node processed no frame.[/red] See its log, {log}", soft_wrap=True)
            raise typer.Exit(EXIT_NOTHING)
    print_result({"output": output, **summary})
    _print_summary(console, summary, output)
    if summary["problems"]:
        print_problems(summary["problems"])
        raise typer.Exit(EXIT_INCOMPLETE)


def _print_summary(console: Console, summary: dict[str, Any], output: Path) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("frames processed", f"{summary['frames_received']} of {summary['frames_published']} published")
    if summary["latency_ms"]:
        latency = summary["latency_ms"]
        table.add_row("stamp to result", f"{latency['p50']:.0f} ms median, {latency['p99']:.0f} ms p99")
    flickering = summary["flicker"]
    table.add_row(
        "flicker",
        f"the number of obstacles changes in {flickering['changes']} of {flickering['steps']} steps, "
        f"of confirmed ones in {flickering['changes_confirmed']}",
    )
    if "auprc" in summary:
        ratio = summary["auprc"] / summary["anomaly_fraction"]
        table.add_row("AuPRC", f"{summary['auprc']:.3f} ({ratio:.0f} times the fraction of anomalous pixels)")
        table.add_row("FPR95", f"{summary['fpr95']:.3f}")
    if "range_error" in summary:
        table.add_row("range error", f"{summary['range_error']:.1%} median, of {summary['ranges']} obstacles located")
    console.print(table)
    video, bag, metrics = (escape(printable(output / name)) for name in ("overlay.mp4", "bag", "summary.json"))
    console.print(f"\nLook at [bold]{video}[/bold] in any browser\nbag: {bag}\nmetrics: {metrics}", soft_wrap=True)
