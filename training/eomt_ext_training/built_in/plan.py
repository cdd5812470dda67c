"""How much the built-in model is trained, and on what."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.files import atomic_write, printable
from eomt_ext_training.built_in.joint_loss import JointLoss
from eomt_ext_training.built_in.randomised import Randomisation
from eomt_ext_training.built_in.training import JointTraining

_log = logging.getLogger(__name__)
_USED = 0.85  # of the time; the rest is for starts, saves and the measurement of the result


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
class Machine:
    """What trains: a device, and the processes that prepare windows for it."""

    device: torch.device
    workers: int


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
    trial_steps: int = 20  # that measure the speed, if the steps are to fit into a time; as many go before

    def quick(self) -> Plan:
        """Return a tiny plan, which only shows that it runs."""
        few = tuple(replace(stage, training=replace(stage.training, steps=2, batch_size=2)) for stage in self.stages)
        textures = replace(self.randomisation.textures, count=6, size=64)
        return Plan(2, few, replace(self.randomisation, textures=textures), save_every=1, test_scenes=1, trial_steps=1)


def fit_into_time(plan: Plan, left_s: float, seconds_per_step: Callable[[Stage], float], folder: Path) -> Plan:
    """Fit the steps of all stages into a time, each stage with the fraction of it that the plan's steps would take.

    The first call writes the steps to ``steps.json`` in the folder, and later ones read them: an interrupted run goes
    on with its own.

    Args:
        plan: what is trained, with other steps.
        left_s: seconds for all stages.
        seconds_per_step: measures a stage.
        folder: of the run.

    Raises:
        ConfigError: if not even a step of each stage fits.
        CheckpointError: if the file is not a list of a number for each stage.
        OutputError: if it cannot be written.
    """
    file = folder / "steps.json"
    if file.is_file():
        steps = _read_steps(file, len(plan.stages))
    else:
        usual_s = sum(stage.runs * stage.training.steps * seconds_per_step(stage) for stage in plan.stages)
        factor = _USED * left_s / usual_s
        steps = [int(factor * stage.training.steps) for stage in plan.stages]
        if min(steps) < 1:
            raise ConfigError(
                f"the time must be enough for a step of each stage, got {left_s:.0f} s, while all usual steps take "
                f"{usual_s:.0f} s: give more --minutes"
            )
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(steps))
    _log.info("steps of the stages: %s", ", ".join(map(str, steps)))
    stages = [
        replace(stage, training=replace(stage.training, steps=count))
        for stage, count in zip(plan.stages, steps, strict=True)
    ]
    return replace(plan, stages=tuple(stages))


def _read_steps(file: Path, count: int) -> list[int]:
    try:
        steps = json.loads(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{printable(file)} must be JSON: {error}") from error
    if not isinstance(steps, list) or len(steps) != count or not all(type(each) is int and each > 0 for each in steps):
        raise CheckpointError(f"{printable(file)} must list the steps of {count} stages: remove it to start again")
    return steps
