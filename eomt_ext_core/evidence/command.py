"""``eomt-ext evidence`` and ``eomt-ext verify``: make an evidence pack, and compare one with the files it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_NOTHING, print_problems
from eomt_ext_core.config import DEMO, NORMALITY_SCORES, EngineConfig
from eomt_ext_core.files import atomic_write, output_folder, printable, sha256_of

if TYPE_CHECKING:
    from eomt_ext_core.comparison.runs import Run
    from eomt_ext_core.evidence.collect import Subject

PAGE, JSON, EVALUATION, METRICS = "evidence.html", "evidence.json", "evaluation", "metrics.json"


def evidence(
    checkpoint: Annotated[str, typer.Argument(help="model that the pack is about: file, hf://owner/name, or demo")],
    output: options.Output,
    overwrite: options.Overwrite = False,
    data: Annotated[list[Path] | None, typer.Option(help="folder of labelled data sets; may be given again")] = None,
    head: options.Head = None,
    scores: options.Scores = EngineConfig.score,
    normality: options.Normality = None,
    label_values: options.LabelMeaning = None,
    split: Annotated[str | None, typer.Option(help="only this split of each data set")] = None,
    calibration_data: Annotated[
        list[Path] | None, typer.Option(help="folder of the images calibrated on, which should share none with --data")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="result of eomt-ext evaluate with this model, instead of evaluating now")
    ] = None,
    device: options.Device = EngineConfig.device,
    backend: options.Backend = EngineConfig.backend,
    precision: options.Precision = EngineConfig.precision,
    workers: options.Workers = None,
) -> None:
    """Gather what a safety reviewer asks of a model: hashes, origins, figures with intervals, guarantee, limits.

    Writes evidence.html, evidence.json, the evaluation, and files.sha256. What is not known is stated as missing, with
    the way out. It is no certificate. Exit status: 0; 3: some image could not be evaluated; 1: no pack, because the
    model fails its self-test, or --evaluation is of another model or other data.
    """
    from eomt_ext_core.about.record import make_record
    from eomt_ext_core.commands.evaluate import open_labelled
    from eomt_ext_core.comparison.runs import Run
    from eomt_ext_core.datasets import open_datasets
    from eomt_ext_core.evidence.collect import Subject, check_run, collect, load
    from eomt_ext_core.evidence.evaluation_part import Evaluation
    from eomt_ext_core.evidence.hashes import LIST, write_list
    from eomt_ext_core.evidence.page import render_page
    from eomt_ext_core.model.checkpoint import resolve_source

    names = options.score_names(scores)
    options.check_sources(checkpoint, head, normality)
    subject = Subject(
        resolve_source(checkpoint),
        EngineConfig(device, backend, precision, score=names[0]),
        names,
        None if head is None else resolve_source(head),
        tuple(open_labelled(data or [], split, label_values)),
        tuple(dataset for folder in calibration_data or () for dataset in open_datasets(folder)),
        (*(data or ()), *(calibration_data or ())),
        normality,
    )
    inputs = [*subject.folders, *(path for path in (evaluation, normality) if path is not None)]
    earlier = (PAGE, JSON, LIST, *(f"{EVALUATION}/{name}" for name in (METRICS, "report.html", "timing.json")))
    engine = load(subject)
    run = None if evaluation is None else Run.read(evaluation)
    if run is not None:
        check_run(run, subject, engine)
    with output_folder(output, overwrite, inputs, earlier) as folder:
        if evaluation is not None:
            _copy(evaluation, folder / EVALUATION / METRICS)
        elif subject.datasets:
            run = _evaluate(subject, folder / EVALUATION, workers)
        result = None if run is None else Evaluation(run, f"{EVALUATION}/{METRICS}", was_given=evaluation is not None)
        pack, named = collect(subject, engine, result, make_record())
        stored = json.dumps(pack.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        name = checkpoint if checkpoint == DEMO else subject.checkpoint.name
        for file, text in ((JSON, stored), (PAGE, render_page(pack, name))):
            with atomic_write(folder / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        write_list(folder, named)
    missing = [f"{part}: {item.what}. Way out: {item.way_out}" for part, item in pack.missing]
    sha256 = sha256_of(output / LIST)
    print_result({"output": output, "sha256": sha256, "missing": missing})
    for line in missing:
        typer.echo(f"missing in {line}")
    typer.echo(f"Look at {printable(output / PAGE)}\nSHA-256 of {LIST}, to sign or to note: {sha256}")
    if result is not None and result.skipped:
        print_problems([reason for _, _, reason in result.skipped])
        raise typer.Exit(EXIT_INCOMPLETE)


def verify(pack: Annotated[Path, typer.Argument(help="output folder of eomt-ext evidence")]) -> None:
    """Compare all files that an evidence pack names with their hashes, as sha256sum --check files.sha256 in it does.

    Exit status: 0: nothing has changed; 1: a file is missing or differs.
    """
    from eomt_ext_core.evidence.hashes import changes

    number, found = changes(pack, least=(PAGE, JSON))
    print_result({"files": number, "changes": found})
    print_problems(found)
    if found:
        raise typer.Exit(EXIT_NOTHING)
    typer.echo(f"{number} files are as they were")


def _evaluate(subject: Subject, folder: Path, workers: int | None) -> Run:
    """Evaluate the data sets, and read the result back as one that was given."""
    from eomt_ext_core.commands.evaluate import about_of, measure, record_of
    from eomt_ext_core.comparison.runs import Run
    from eomt_ext_core.evaluation.dataset_run import DatasetRun
    from eomt_ext_core.evaluation.report import write_report

    needs_normality = set(subject.scores) & set(NORMALITY_SCORES)
    run = DatasetRun(
        checkpoint=str(subject.checkpoint),
        engine=subject.engine,
        head=None if subject.head is None else str(subject.head),
        scores=subject.scores,
        normality=str(subject.normality) if needs_normality else None,
    )
    found = [run.select(dataset) for dataset in subject.datasets]
    results = measure(run, found, workers)
    if sum(result.num_found for result in results) < sum(len(dataset.samples) for dataset in found):
        raise KeyboardInterrupt
    about = about_of(str(subject.checkpoint), subject.engine, results)
    write_report(results, folder, about, record_of(results, subject.scores))
    return Run.read(folder)


def _copy(evaluation: Path, target: Path) -> None:
    """Copy the figures of an evaluation; not its page, as its scripts may come from a stranger."""
    import shutil

    with atomic_write(target) as temporary:
        shutil.copyfile(evaluation / METRICS if evaluation.is_dir() else evaluation, temporary)
