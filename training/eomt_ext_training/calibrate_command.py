"""``eomt-ext calibrate``: make a checkpoint's probabilities mean what they say, and choose its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.config import SCORES, EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.evaluation import CalibrationResult
    from eomt_ext_core.model.eomt_ext import EoMTExt
    from eomt_ext_core.scoring.calibration import LogitCalibration
    from eomt_ext_training.calibration import LogitCounts, PlattScaling, ScoreGrid
    from eomt_ext_training.held_out import HeldOutFrames
    from eomt_ext_training.obstacle_guarantee import MissedObstacles

_GUARANTEES = ("pixels", "obstacles")
_LEAST_WATCHED = 80  # a quarter of them is what later images are compared with
_DATA_HELP = "held-out frames: a folder of images and labels, or scenes:SEED:COUNT[:FAMILY,…]"


def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="checkpoint: file, hf://owner/name, demo, or .onnx")],
    data: Annotated[str, typer.Option(help=_DATA_HELP)],
    target_tpr: Annotated[float, typer.Option(help="fraction of anomalous pixels, or of obstacles, to find")] = 0.95,
    check: Annotated[str | None, typer.Option(help="other frames, to measure the result on")] = None,
    output: Annotated[
        Path | None, typer.Option(help="file to write; by default the checkpoint itself, with --overwrite")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG of the reliability, before and after")] = None,
    device: options.Device = EngineConfig.device,
    label_values: options.LabelMeaning = None,
    guarantee: Annotated[
        str,
        typer.Option(help="what target-tpr is of: pixels, of a frame's anomalous ones; obstacles, of each size"),
    ] = "pixels",
    normality: Annotated[
        Path | None,
        typer.Option(help="file to write that tells the engine when images are no longer like these, .safetensors"),
    ] = None,
    score: options.CalibratedScore = EngineConfig.score,
    backend: options.Backend = EngineConfig.backend,
    precision: options.Precision = EngineConfig.precision,
    windows: options.Windows = WindowConfig.mode,
    blend: options.Blend = WindowConfig.blend,
    overlap: options.Overlap = WindowConfig.overlap,
    scale: options.Scale = WindowConfig.scale,
    horizon: options.Horizon = WindowConfig.horizon,
    fovea: options.Fovea = WindowConfig.fovea,
    overwrite: options.Overwrite = False,
    head: options.Head = None,
) -> None:
    """Fit scale and shift of an anomaly score on held-out frames, choose the mask's threshold, and store both.

    The threshold finds, in expectation, at least the target fraction of a frame's anomalous pixels on frames like these
    (conformal risk control); with the guarantee obstacles, at least that fraction of the obstacles of each size that
    the frames show often enough, with a confidence of 99 %. Use windows and precision as you will run it. Exit status:
    0, or 1 if it cannot be calibrated.
    """
    from rich.console import Console

    from eomt_ext_core.about.record import make_record
    from eomt_ext_core.datasets.labels import LabelValues
    from eomt_ext_core.files import check_output_file, expanded, sha256_of
    from eomt_ext_core.model.checkpoint import resolve_source
    from eomt_ext_core.scoring.calibration import LogitCalibration
    from eomt_ext_training.calibrated_file import CalibratedFile
    from eomt_ext_training.calibration import BIN_WIDTH, ScoreGrid, frames_needed, require_frames, threshold_of
    from eomt_ext_training.held_out import HeldOutFrames
    from eomt_ext_training.obstacle_guarantee import CONFIDENCE, MissedObstacles

    console = Console()
    if guarantee not in _GUARANTEES:
        raise ConfigError(f"--guarantee must be one of {', '.join(_GUARANTEES)}, got {guarantee!r}")
    if score not in SCORES:
        raise ConfigError(f"--scores must be one of {', '.join(SCORES)}, got {score!r}")
    window_config = WindowConfig(windows, blend, overlap, scale, horizon, fovea)
    config = EngineConfig(device, backend, precision, score=score, windows=window_config)
    frames_needed(target_tpr)  # refuses a target that is out of range
    meaning = None if label_values is None else LabelValues.parse(label_values)
    options.check_sources(checkpoint, head, None)
    source = resolve_source(checkpoint)
    target = expanded(output or checkpoint)
    if target.suffix not in CalibratedFile.SUFFIXES:
        raise ConfigError(f"a calibrated model is saved as .safetensors: give --output, got {str(target)!r}")
    check_output_file(target, overwrite)
    if plot is not None:
        check_output_file(plot, overwrite, ".svg", option="--plot")
    if normality is not None:
        check_output_file(normality, overwrite, ".safetensors", option="--normality")
        if target.suffix == ".onnx":
            raise ConfigError(
                "an exported file gives no features: --normality needs the checkpoint it was exported from"
            )
    file = CalibratedFile(
        checkpoint, target, config, head
    )  # before all frames are looked at: it knows what cannot run here
    frames, fresh = HeldOutFrames.of(data, meaning), HeldOutFrames.of(check, meaning) if check else None
    require_frames(len(frames), target_tpr)  # how many of them show an anomaly comes out in the long part
    if normality is not None and len(frames) < _LEAST_WATCHED:
        raise DatasetError(f"--normality needs at least {_LEAST_WATCHED} frames, got {len(frames)}")
    origin = {"checkpoint_sha256": sha256_of(source)}
    if head is not None:
        origin["head_sha256"] = sha256_of(resolve_source(head))
    for each in (frames, fresh) if fresh is not None else (frames,):
        each.check_kinds()
    engine, num_classes = file.engine, file.engine.scorer.num_classes

    obstacles = MissedObstacles() if guarantee == "obstacles" else None
    grid = ScoreGrid.of(score, num_classes)
    counts = _count(engine, score, grid, frames, obstacles)
    scaling = counts.fit()
    of_scores = grid.of_scores(scaling)
    promise: dict[str, Any] = {"guarantee": guarantee}
    if obstacles is not None:
        chosen = obstacles.choose(target_tpr)
        logit = chosen.logit
        promise |= {"confidence": CONFIDENCE, "obstacles": dict(chosen.counts)}
    else:
        logit = counts.choose_logit_threshold(target_tpr)
    # Float32 rounds a baseline by more than the head, whose logits are not spread out: by less than half a bin.
    margin = 0.0 if score == "head" else BIN_WIDTH / 2
    stored: dict[str, Any] = {
        "scale": of_scores.scale,
        "shift": of_scores.shift,
        "threshold": threshold_of(logit - margin, scaling),
        "target_tpr": target_tpr,
        **promise,
        "num_frames": counts.num_frames,
        "data": data if frames.images is None else frames.images.folder.name,
    }
    calibration = LogitCalibration(of_scores.scale, of_scores.shift, stored["threshold"])
    before, after = _reliabilities(counts, score, grid, scaling, num_classes)
    stored |= {"ece_before": before.ece, "ece_after": after.ece}
    record = make_record(
        model=origin,
        device=str(engine.device),
        precision=engine.precision,
        data=data,
        data_sha256=frames.digest(),
    )
    file.save(stored, record)  # before the check, which may fail
    if fresh is not None:
        found = _check(engine, score, grid, scaling, calibration, fresh)
        stored["check"] = {"data": check if fresh.images is None else fresh.images.folder.name, **found}
        file.save(stored, record)

    print_result({"output": target, **stored})
    console.print(_reliability_table(before, after))
    console.print(
        f"probability = sigmoid({of_scores.scale:.4f} · {'logit' if score == 'head' else score} "
        f"{of_scores.shift:+.4f}); expected calibration error "
        f"{before.ece:.5f} before, {after.ece:.5f} after",
        _threshold_text(stored["threshold"], target_tpr, counts, logit),
        sep="\n", highlight=False, soft_wrap=True,
    )  # fmt: skip
    if fresh is not None:
        console.print(f"on {check}: {_sentence(stored['check'])}", highlight=False, soft_wrap=True)
    if plot is not None:
        from eomt_ext_training.reliability_plot import write_reliability

        write_reliability(before, after, plot)
    console.print(f"saved {target}", highlight=False)
    if normality is not None and file.model is not None:
        _save_normality(file.model, target, frames, config, normality)
        console.print(f"saved {normality}", highlight=False)


def _threshold_text(threshold: float, target_tpr: float, counts: LogitCounts, logit: float) -> str:
    if logit == float("-inf"):
        return (
            f"threshold 0: the mask is the whole image, as nothing less finds {target_tpr:g} on "
            f"{counts.num_frames} frames with anomalies: give more frames or a lower target, or try another score"
        )
    found = 1 - counts.mean_miss_share(logit)
    return (
        f"threshold {threshold:.6f}: target TPR {target_tpr:g}, on {counts.num_frames} frames with anomalies "
        f"{found:.4f} on average"
    )


def _save_normality(model: EoMTExt, target: Path, frames: HeldOutFrames, config: EngineConfig, path: Path) -> None:
    """Write what tells when images are no longer like the frames; it gives no scores, as these show anomalies."""
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.files import sha256_of
    from eomt_ext_core.normality.learn_config import LearnConfig
    from eomt_ext_core.normality.learning import learn_normality
    from eomt_ext_core.normality.normal_file import save_normality
    from eomt_ext_core.normality.normality import Normality
    from eomt_ext_training.held_out import FramesAsDrive

    def make_engine(known: Normality | None) -> AnomalyEngine:
        return AnomalyEngine(model, config, known)

    origin = {"checkpoint_sha256": sha256_of(target)}
    learnt = learn_normality([FramesAsDrive(frames)], make_engine, origin, LearnConfig())
    save_normality(replace(learnt, readings={}), path)


def _count(
    engine: AnomalyEngine,
    score: str,
    grid: ScoreGrid,
    frames: HeldOutFrames,
    obstacles: MissedObstacles | None = None,
) -> LogitCounts:
    from eomt_ext_core.progress import tracked
    from eomt_ext_training.calibration import LogitCounts

    counts = LogitCounts()
    for image, labels in tracked(frames, "calibrating", len(frames)):
        logits = grid.spread(engine.logits(image, score))
        counts.add(logits, labels)
        if obstacles is not None:
            obstacles.add(logits, labels)
    return counts


def _check(
    engine: AnomalyEngine,
    score: str,
    grid: ScoreGrid,
    scaling: PlattScaling,
    calibration: LogitCalibration,
    frames: HeldOutFrames,
) -> dict[str, float]:
    """What the calibration does on frames that it was not fitted on; one pass of the network for each."""
    import torch

    from eomt_ext_core.progress import tracked
    from eomt_ext_training.calibration import LogitCounts, MaskRates

    counts, rates = LogitCounts(), MaskRates()
    for image, labels in tracked(frames, "checking", len(frames)):
        logits = engine.logits(image, score)
        counts.add(grid.spread(logits), labels)
        rates.add(calibration.probability(torch.from_numpy(logits)).numpy() > calibration.threshold, labels)
    before, after = _reliabilities(counts, score, grid, scaling, engine.scorer.num_classes)
    return {"ece_before": before.ece, "ece_after": after.ece, **rates.result()}


def _sentence(found: Mapping[str, float]) -> str:
    """Say what a check found.

    >>> _sentence({"pixel_tpr": 0.5, "mean_tpr": 0.75, "pixel_fpr": 0.01, "ece_before": 0.3, "ece_after": 0.02})[:71]
    'finds 50.00 % of the anomalous pixels (of a frame on average 75.00 %), '
    """
    return (
        f"finds {100 * found['pixel_tpr']:.2f} % of the anomalous pixels (of a frame on average "
        f"{100 * found['mean_tpr']:.2f} %), marks {100 * found['pixel_fpr']:.2f} % of the normal ones; "
        f"expected calibration error {found['ece_before']:.5f} before, {found['ece_after']:.5f} after"
    )


def _reliabilities(
    counts: LogitCounts, score: str, grid: ScoreGrid, scaling: PlattScaling, num_classes: int
) -> tuple[CalibrationResult, CalibrationResult]:
    """Give the reliability without and with a scaling."""
    from eomt_ext_core.scoring.uncertainty import baseline_probability

    after = counts.reliability(scaling.scale, scaling.shift)
    if score == "head":
        return counts.reliability(1.0, 0.0), after
    return counts.reliability_of(lambda places: baseline_probability(grid.unspread(places), score, num_classes)), after


def _reliability_table(before: CalibrationResult, after: CalibrationResult) -> Any:
    from rich.table import Table

    table = Table(title="reliability: predicted probability and fraction of anomalous pixels")
    for column in ("bin", "pixels before", "said", "true", "pixels after", "said", "true"):
        table.add_column(column, justify="right")
    for row, (low, high) in enumerate(zip(before.bin_edges, before.bin_edges[1:], strict=False)):
        if not before.num_pixels[row] and not after.num_pixels[row]:
            continue
        cells = [f"{low:.2f}–{high:.2f}"]
        for result in (before, after):
            if result.num_pixels[row]:
                fractions = (f"{result.mean_probability[row]:.3f}", f"{result.anomaly_fraction[row]:.3f}")
                cells += [f"{result.num_pixels[row]:,}", *fractions]
            else:
                cells += ["0", "", ""]
        table.add_row(*cells)
    return table
