"""Steps that fit into a time."""

from dataclasses import replace
from pathlib import Path

import pytest
from eomt_ext_training.built_in.plan import Plan, Stage, fit_into_time
from eomt_ext_training.built_in.training import JointTraining

from eomt_ext_core.errors import CheckpointError, ConfigError

PLAN = replace(Plan(), stages=(Stage(2, JointTraining(steps=100)), Stage(1, JointTraining(steps=200), runs=2)))


def seconds_per_step(stage: Stage) -> float:
    return 1.0 if stage.shrink == 2 else 2.0  # 900 s in all


def steps(plan: Plan) -> list[int]:
    return [stage.training.steps for stage in plan.stages]


def test_steps_fit_into_the_time(tmp_path: Path) -> None:
    plan = fit_into_time(PLAN, 450.0, seconds_per_step, tmp_path)
    assert steps(plan) == [42, 85]  # 0.85 · 450 / 900 of the usual ones
    total_s = sum(stage.runs * stage.training.steps * seconds_per_step(stage) for stage in plan.stages)
    assert total_s <= 0.85 * 450


def test_an_interrupted_run_keeps_its_steps(tmp_path: Path) -> None:
    first = fit_into_time(PLAN, 450.0, seconds_per_step, tmp_path)
    assert steps(fit_into_time(PLAN, 10.0, seconds_per_step, tmp_path)) == steps(first)


def test_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 1 s, while all usual steps take 900 s: give more --minutes"):
        fit_into_time(PLAN, 1.0, seconds_per_step, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["[1]", "[1, 0]", "[1, true]", "{", "7"])
def test_foreign_steps_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"steps\.json must"):
        fit_into_time(PLAN, 450.0, seconds_per_step, tmp_path)
