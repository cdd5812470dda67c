"""Train the built-in model further from a demonstration model, on drawn scenes with randomised looks.

``python -m eomt_ext_training.demo_model`` trains a network and a head from nothing; this trains both further, together,
in stages. You can interrupt it at any time: the same command continues from the last save in the folder of its output.
The newest averaged weights are always in ``stageN-RUN-latest.safetensors`` beside it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2

from eomt_ext_core.about.record import make_record, with_record
from eomt_ext_core.config import SCORES, EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.errors import ConfigError, EomtExtError
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SEMANTIC_CLASSES, SceneConfig
from eomt_ext_training.built_in.joint_loss import JointLoss
from eomt_ext_training.built_in.randomised import Randomisation, RandomisedScenes
from eomt_ext_training.built_in.training import JointTraining, averaged, train_together
from eomt_ext_training.data.rendered import SceneSet, load_scenes
from eomt_ext_training.data.scenes import ProceduralScenes
from eomt_ext_training.demo_model import HELD_OUT_FAMILIES, MODEL, TEST_SEEDS
from eomt_ext_training.measure import measure

_log = logging.getLogger(__name__)

SCENE_SEEDS = 4_000_000
_SET = 250  # scenes rendered at a time, so that an interruption costs little
_IMAGE_HW = (540, 960)


@dataclass(frozen=True)
class Stage:
    """A stage of the training, on windows made smaller by ``shrink``.

    The weights of several ``runs``, each from the same start with its own seed, are averaged: a "model soup"
    (Wortsman et al., ICML 2022), which costs nothing at inference.
    """

    shrink: int
    training: JointTraining
    runs: int = 1


@dataclass(frozen=True)
class Plan:
    """Amounts of data and steps, and the randomisation."""

    scenes: int = 2000
    stages: tuple[Stage, ...] = (
        Stage(2, JointTraining(steps=400, batch_size=16, lr=4e-4, falling=0.0)),
        Stage(1, JointTraining(steps=650, lr=3e-4, falling=0.385, seed=1, loss=JointLoss(largest_boost=2.5)), runs=2),
    )
    randomisation: Randomisation = field(default_factory=Randomisation)
    renewed: float = 0.5  # how far the result's weights lie on the straight line from those of the start to the last
    save_every: int = 100
    test_scenes: int = 200

    def quick(self) -> Plan:
        """Return a tiny plan, which only shows that it runs."""
        few = tuple(replace(stage, training=replace(stage.training, steps=2, batch_size=2)) for stage in self.stages)
        textures = replace(self.randomisation.textures, count=6, size=64)
        return Plan(2, few, replace(self.randomisation, textures=textures), save_every=1, test_scenes=1)


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
        "--run", type=int, help="train only this run of a stage with several runs, to train runs in parallel"
    )
    parser.add_argument("--quick", action="store_true", help="tiny amounts, to show that it runs")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    cv2.setNumThreads(1)  # windows are too small for threads
    try:
        make(Plan().quick() if args.quick else Plan(), args.start, args.output, args.cache, args.workers, args.run)
    except EomtExtError as error:
        sys.exit(f"built_in: {error}")


def make(
    plan: Plan, start: str, output: Path, cache: Path, workers: int, only_run: int | None = None
) -> EoMTExt | None:
    """Run all stages, continuing an interrupted run, and measure the result.

    Args:
        plan: amounts of data and steps.
        start: model to start from, as for ``load_model``.
        output: ``.safetensors`` file of the result; files to continue a run are kept beside it.
        cache: folder of rendered scenes.
        workers: processes that prepare windows.
        only_run: train only this run, from 1 on, of the first unfinished stage with several runs.

    Returns:
        the model in the file; None after a single run.
    """
    families = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    sets = _render(plan, families, cache)
    source: str | Path = start
    model = load_model(source)
    for number in range(1, len(plan.stages) + 1):
        finished = output.parent / f"stage{number}.safetensors"
        if not finished.is_file():
            _log.info("stage %d of %d", number, len(plan.stages))
            runs = plan.stages[number - 1].runs
            alone = only_run is not None and runs > 1
            chosen = [only_run] if alone and only_run is not None else range(1, runs + 1)
            models = [_trained(plan, number, run, source, sets, output.parent, workers) for run in chosen]
            if alone:
                return None
            save_model(averaged(models), finished)
        source = finished
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
    plan: Plan, number: int, run: int, source: str | Path, sets: Sequence[SceneSet], folder: Path, workers: int
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
    crop_hw = (MODEL.crop_hw[0] // stage.shrink, MODEL.crop_hw[1] // stage.shrink)
    model = load_model(source, {"crop_hw": crop_hw})
    count = training.steps * training.batch_size
    data = RandomisedScenes(sets, crop_hw, count, plan.randomisation, training.seed)

    def export(step: int, newest: EoMTExt) -> None:
        latest = folder / f"{name}-latest.safetensors"
        save_model(newest, latest)
        _log.info("%s has the weights of step %d", latest, step)

    folder.mkdir(parents=True, exist_ok=True)
    state = folder / f"{name}.state"
    trained = train_together(
        model, data, training, state, save_every=plan.save_every, on_save=export, num_workers=workers
    )
    save_model(trained, finished)
    return trained
