"""``eomt-ext learn-normal``: what ordinary driving looks like, from a drive without labels."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.config import DEMO, EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import printable
from eomt_ext_core.normality.learn_config import LearnConfig

if TYPE_CHECKING:
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.normality.normality import Normality

_DOC = {item.name: item.metadata["doc"] for item in fields(LearnConfig)}


def learn_normal(
    output: Annotated[Path, typer.Option(help="file to write, .safetensors")],
    drives: Annotated[
        list[Path] | None, typer.Argument(help="videos, folders of images in the order of their names, or bags")
    ] = None,
    overwrite: options.Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run that was interrupted")] = False,
    checkpoint: options.Checkpoint = DEMO,
    head: options.Head = None,
    reference: Annotated[
        Path | None, typer.Option(help="a single ordinary image in the place of drives; fitted on its mirror image")
    ] = None,
    image_topic: Annotated[str | None, typer.Option(help="of the images in bags")] = None,
    held_out: Annotated[float, typer.Option(help=_DOC["held_out"])] = LearnConfig.held_out,
    false_alarm_rate: Annotated[float, typer.Option(help=_DOC["false_alarm_rate"])] = LearnConfig.false_alarm_rate,
    every: Annotated[int, typer.Option(help=_DOC["every"])] = LearnConfig.every,
    prototypes: Annotated[int, typer.Option(help=_DOC["prototypes"])] = LearnConfig.prototypes,
    device: options.Device = EngineConfig.device,
    precision: options.Precision = EngineConfig.precision,
    windows: options.Windows = WindowConfig.mode,
    blend: options.Blend = WindowConfig.blend,
    overlap: options.Overlap = WindowConfig.overlap,
    scale: options.Scale = WindowConfig.scale,
    horizon: options.Horizon = WindowConfig.horizon,
    fovea: options.Fovea = WindowConfig.fovea,
) -> None:
    """Learn from ordinary driving, without labels, what the scores normality and fused compare with.

    Of each drive the first part is learnt from, and the last is held out to fit the scores. Use windows and precision
    as you will run it. The file belongs to this checkpoint; another one refuses it. After an interruption the same
    command goes on with --resume, and ends with the same result; with another model, other settings or other images it
    is refused.
    """
    from eomt_ext_core.about.record import RECORD, make_record
    from eomt_ext_core.backends.device import choose_device, choose_precision
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.files import check_output_file, sha256_of
    from eomt_ext_core.fingerprint import fingerprint_of
    from eomt_ext_core.model.checkpoint import load_model, resolve_source
    from eomt_ext_core.normality.drift import LEAST_REFERENCE
    from eomt_ext_core.normality.drives import open_drives, reference_drive
    from eomt_ext_core.normality.learning import learn_normality
    from eomt_ext_core.normality.normal_file import save_normality
    from eomt_ext_core.normality.unfinished import Unfinished, began_with_overwrite, files_of

    if bool(drives) == (reference is not None):
        raise ConfigError("give drives, or one --reference, and not both")
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run and --overwrite begins anew: give one of them")
    replaces = overwrite or (resume and began_with_overwrite(output))
    check_output_file(output, replaces, ".safetensors")
    config = LearnConfig(held_out, false_alarm_rate, every, prototypes)
    window_config = WindowConfig(windows, blend, overlap, scale, horizon, fovea)
    engine_config = EngineConfig(device, precision=precision, windows=window_config)
    found = choose_device(device)
    used = choose_precision(precision, found)
    options.check_sources(checkpoint, head, None)
    if reference is not None:
        opened, config = [reference_drive(reference)], LearnConfig(0.5, false_alarm_rate, 1, prototypes)
    else:
        opened = open_drives(drives or [], image_topic)
    model = load_model(checkpoint, head=head)
    origin = {"checkpoint_sha256": sha256_of(resolve_source(checkpoint))}
    if head is not None:
        origin["head_sha256"] = sha256_of(resolve_source(head))
    score = "rba" if model.anomaly_head is None else "head"
    engine_config = replace(engine_config, device=str(found), precision=used, score=score)

    def make_engine(normality: Normality | None) -> AnomalyEngine:
        return AnomalyEngine(model, engine_config, normality)

    inputs = [reference] if reference is not None else drives or []
    run = fingerprint_of((origin, engine_config, config, image_topic, inputs), files_of(inputs))
    unfinished = Unfinished(output, run, replaces)
    if overwrite:
        unfinished.finish()
    unfinished.require_choice(resume)
    normality = learn_normality(opened, make_engine, origin, config, unfinished)
    names = [drive.name for drive in opened]
    record = make_record(model=origin, device=str(found), precision=used, drives=names)
    normality = replace(normality, about={**normality.about, RECORD: record})
    save_normality(normality, output)
    unfinished.finish()
    about = normality.about
    print_result({"output": output, **about})
    typer.echo(
        f"{printable(output)}: {output.stat().st_size / 1e6:.2f} MB, from {about['images_learnt']} images, fitted on "
        f"{about['images_held_out']} held-out ones: at the threshold 0.5, {false_alarm_rate:g} of their pixels are "
        "false alarms"
    )
    if normality.drift is None:
        typer.echo(
            f"too few held-out images to tell later when a drive is another one: it takes {LEAST_REFERENCE}, got "
            f"{about['images_held_out']}: give a longer drive, or a smaller --every",
            err=True,
        )
