"""Train the built-in model further from a demonstration model, on drawn scenes with randomised looks.

``python -m eomt_ext_training.demo_model`` trains a network and a head from nothing; this trains both further, together,
in stages. You can interrupt it at any time: the same command continues from the last save in the folder of its output.
The newest averaged weights are always in ``stageN-RUN-latest.safetensors`` beside it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import cv2

from eomt_ext_core.about.record import make_record, start_record, with_record
from eomt_ext_core.backends.device import choose_device
from eomt_ext_core.config import SCORES, EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.errors import ConfigError, EomtExtError
from eomt_ext_core.files import check_output_file
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SEMANTIC_CLASSES, SceneConfig
from eomt_ext_training.built_in.plan import Machine, Plan, Stage, fit_into_time
from eomt_ext_training.built_in.randomised import RandomisedScenes
from eomt_ext_training.built_in.training import JointTraining, averaged, train_together
from eomt_ext_training.data.scenes import ProceduralScenes
from eomt_ext_training.data.stored.rendered import SceneSet, load_scenes
from eomt_ext_training.demo_model import HELD_OUT_FAMILIES, MODEL, TEST_SEEDS
from eomt_ext_training.measure import measure

_log = logging.getLogger(__name__)

SCENE_SEEDS = 4_000_000
_SET = 250  # scenes rendered at a time, so that an interruption costs little
_IMAGE_HW = (540, 960)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and save; a broken rule ends the command with a message."""
    parser = argparse.ArgumentParser(prog="built_in", description=__doc__)
    parser.add_argument("--start", default="demo", help="model to start from")
    parser.add_argument("--output", type=Path, default=Path("runs/built_in/demo.safetensors"))
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/scenes"), help="folder for the cache of rendered scenes"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows for the training")
    parser.add_argument(
        "--run",
        type=int,
        help="train only this run of a stage with several runs, to train runs in parallel; writes no --output",
    )
    parser.add_argument("--device", default="cpu", help="of the training: cpu, cuda or cuda:N")
    parser.add_argument(
        "--minutes", type=float, help="fit the steps of all stages into this time, by the speed of this machine"
    )
    parser.add_argument("--quick", action="store_true", help="tiny amounts, to show that it runs")
    parser.add_argument("--overwrite", action="store_true", help="replace the model, but keep its finished stages")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    start_record(tuple(sys.argv))
    cv2.setNumThreads(1)  # windows are too small for threads
    try:
        check_output_file(args.output, args.overwrite or args.run is not None, ".safetensors")
        plan, machine = Plan().quick() if args.quick else Plan(), Machine(choose_device(args.device), args.workers)
        make(plan, args.start, args.output, args.cache, machine, args.run, args.minutes)
    except EomtExtError as error:
        sys.exit(f"built_in: {error}")


def make(
    plan: Plan,
    start: str,
    output: Path,
    cache: Path,
    machine: Machine,
    only_run: int | None = None,
    minutes: float | None = None,
) -> EoMTExt | None:
    """Run all stages, continuing an interrupted run, and measure the result.

    Args:
        plan: amounts of data and steps.
        start: model to start from, as for ``load_model``.
        output: ``.safetensors`` file of the result; files to continue a run are kept beside it.
        cache: folder of rendered scenes.
        machine: what trains.
        only_run: train only this run, from 1 on, of the first unfinished stage with several runs; write no output.
        minutes: time that rendering and training may take, other steps than the plan's; None: the plan's.

    Returns:
        the model in the file; None after a single run.
    """
    families = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    began = time.monotonic()
    sets = _render(plan, families, cache)
    source: str | Path = start
    if minutes is not None:
        left_s = minutes * 60 - (time.monotonic() - began)
        plan = fit_into_time(
            plan, left_s, lambda stage: _seconds_per_step(plan, stage, start, sets, machine), output.parent
        )
    model = load_model(source)
    for number in range(1, len(plan.stages) + 1):
        finished = output.parent / f"stage{number}.safetensors"
        if not finished.is_file():
            _log.info("stage %d of %d", number, len(plan.stages))
            runs = plan.stages[number - 1].runs
            alone = only_run is not None and runs > 1
            chosen = [only_run] if alone and only_run is not None else range(1, runs + 1)
            models = [_trained(plan, number, run, source, sets, output.parent, machine) for run in chosen]
            if alone:
                return None
            save_model(averaged(models), finished)
        source = finished
    if only_run is not None:
        return None
    # A model between the two is better than both, on drawn scenes and on others (Wortsman et al., CVPR 2022).
    ends = [load_model(end, {"crop_hw": MODEL.crop_hw}) for end in (start, source)]
    model = averaged(ends, (1 - plan.renewed, plan.renewed))
    unseen = ProceduralScenes(
        _IMAGE_HW, plan.test_scenes, TEST_SEEDS, obstacle_families=HELD_OUT_FAMILIES, rendered=cache
    )
    measured = measure(AnomalyEngine(model, EngineConfig(precision="fp32")), unseen, SCORES)
    model.info = {
        "name": "eomt-ext-demo",
        "purpose": "demonstration and tests; trained on procedural scenes alone; not for use on a vehicle",
        "class_names": list(SEMANTIC_CLASSES),
        "held_out_families": list(HELD_OUT_FAMILIES),
        "plan": {"started_from": model.info.get("plan", {}), "further": asdict(plan)},
        "results": {
            score: {name: round(getattr(result, name), 6) for name in ("auprc", "fpr95", "auroc", "anomaly_fraction")}
            for score, result in measured.items()
        },
    }
    model.info = with_record(model.info, make_record())
    save_model(model, output, make_probe(model))
    _log.info("saved %s; head on unseen drawn scenes: %s", output, model.info["results"]["head"])
    return model


def _render(plan: Plan, families: tuple[str, ...], cache: Path) -> list[SceneSet]:
    config = SceneConfig(size_hw=_IMAGE_HW, obstacle_probability=0.5, obstacle_families=families)
    last = SCENE_SEEDS + plan.scenes
    sets = []
    for first in range(SCENE_SEEDS, last, _SET):
        sets.append(load_scenes(range(first, min(first + _SET, last)), config, cache))
        _log.info("scenes up to seed %d of %d are there", min(first + _SET, last), last)
    return sets


def _trained(
    plan: Plan, number: int, run: int, source: str | Path, sets: Sequence[SceneSet], folder: Path, machine: Machine
) -> EoMTExt:
    """Return the model after a run of a stage, at the crop of the stage."""
    stage = plan.stages[number - 1]
    if not 1 <= run <= stage.runs:
        raise ConfigError(f"run must lie in [1, {stage.runs}], got {run}")
    name = f"stage{number}-{run}"
    finished = folder / f"{name}.safetensors"
    if finished.is_file():
        return load_model(finished)
    training = replace(stage.training, seed=stage.training.seed + run - 1)
    model, data = _prepared(plan, stage, training, source, sets, machine)

    def export(step: int, newest: EoMTExt) -> None:
        latest = folder / f"{name}-latest.safetensors"
        save_model(newest, latest)
        _log.info("%s has the weights of step %d", latest, step)

    folder.mkdir(parents=True, exist_ok=True)
    state = folder / f"{name}.state"
    trained = train_together(
        model, data, training, state, save_every=plan.save_every, on_save=export, num_workers=machine.workers
    )
    save_model(trained, finished)
    return trained


def _seconds_per_step(plan: Plan, stage: Stage, start: str, sets: Sequence[SceneSet], machine: Machine) -> float:
    """Train a copy for a few steps; the first half of them, which starts the processes, does not count."""
    half = plan.trial_steps
    training = replace(stage.training, steps=2 * half)
    model, data = _prepared(plan, stage, training, start, sets, machine)
    times = [time.monotonic()]
    with tempfile.TemporaryDirectory() as folder:
        train_together(
            model,
            data,
            training,
            Path(folder) / "trial.state",
            save_every=half,
            on_save=lambda *_: times.append(time.monotonic()),
            num_workers=machine.workers,
        )
    return (times[-1] - times[1]) / (half)


def _prepared(
    plan: Plan,
    stage: Stage,
    training: JointTraining,
    source: str | Path,
    sets: Sequence[SceneSet],
    machine: Machine,
) -> tuple[EoMTExt, RandomisedScenes]:
    crop_hw = (MODEL.crop_hw[0] // stage.shrink, MODEL.crop_hw[1] // stage.shrink)
    count = training.steps * training.batch_size
    model = load_model(source, {"crop_hw": crop_hw}).to(machine.device)
    return model, RandomisedScenes(sets, crop_hw, count, plan.randomisation, training.seed)
