"""Every command of every package spells an option alike."""

import importlib
import inspect
import re
from typing import Any, get_args

import pytest
from rich.text import Text
from typer.testing import CliRunner

from eomt_ext_core.cli import app
from eomt_ext_core.commands import options
from eomt_ext_core.config import ALL_SCORES, SCORES
from eomt_ext_core.errors import ConfigError

COMMANDS = {
    "bench": "eomt_ext_core.commands.bench",
    "compare": "eomt_ext_core.commands.compare",
    "evaluate": "eomt_ext_core.commands.evaluate",
    "evidence": "eomt_ext_core.evidence.command",
    "predict": "eomt_ext_core.commands.predict",
    "export": "eomt_ext_core.commands.export",
    "convert": "eomt_ext_core.commands.convert",
    "info": "eomt_ext_core.commands.info",
    "learn_normal": "eomt_ext_core.commands.learn_normal",
    "replay": "eomt_ext_ros.replay.command",
    "demo": "eomt_ext_ros.demo.command",
    "calibrate": "eomt_ext_training.calibrate_command",
}
NEEDED = {"replay": "rosbags", "demo": "rclpy", "calibrate": "eomt_ext_training"}
# Typer takes the first argument of an option inside Annotated for its name, and keeps it as the default.
SHARED = {get_args(alias)[1].default: alias for alias in vars(options).values() if len(get_args(alias)) == 2}
# A file, not a folder; device, precision or scores of what is written, not of what computes; what need not be given.
OTHERS = {
    "calibrate --output",
    "calibrate --normality",
    "learn_normal --output",
    "export --output",
    "export --checkpoint",
    "calibrate --checkpoint",
    "bench --checkpoint",
    "evidence --checkpoint",
    "bench --device",
    "bench --precision",
    "compare --scores",
    "convert --output",
    "export --device",
    "export --precision",
    "export --scores",
}


def declared(command: str) -> dict[str, Any]:
    """The options of a command by name, as they are annotated."""
    pytest.importorskip(NEEDED.get(command, "typer"))
    function = getattr(importlib.import_module(COMMANDS[command]), command)
    parameters = inspect.signature(function, eval_str=True).parameters
    return {f"--{name.replace('_', '-')}": parameter.annotation for name, parameter in parameters.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_of_several_commands_is_declared_once(command: str) -> None:
    shared = {name: hint for name, hint in declared(command).items() if name in SHARED}
    assert shared
    assert [name for name, hint in shared.items() if hint != SHARED[name]] == [
        name for name in shared if f"{command} {name}" in OTHERS
    ]


@pytest.mark.parametrize("command", ["evaluate", "evidence", "predict", "replay", "calibrate"])
def test_how_images_are_cut_has_one_name(command: str) -> None:
    assert {"--windows", "--blend", "--overlap", "--scale", "--horizon", "--fovea"} <= declared(command).keys()


@pytest.mark.parametrize("command", ["evaluate", "predict", "replay"])
def test_how_many_work_has_one_name(command: str) -> None:
    assert {"--workers", "--ray"} <= declared(command).keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_shown_as_it_is_written(command: str) -> None:
    for name, hint in declared(command).items():
        text = get_args(hint)[1].help
        assert Text.from_markup(text).plain == text, f"{name}: brackets are markup"


def test_scores_must_be_named() -> None:
    assert options.score_names("head, msp,") == ("head", "msp")
    with pytest.raises(ConfigError, match="--scores must name some of head, msp"):
        options.score_names(" ,")
    for wrong in ("head,head", "head,colour"):
        with pytest.raises(ConfigError, match=f"each once, got '{wrong}'"):
            options.score_names(wrong)


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "learn_normal", "replay"])
def test_a_separate_head_has_one_name(command: str) -> None:
    assert declared(command)["--head"] == options.Head


def test_a_narrow_terminal_shows_every_score() -> None:
    text = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "80"}).output
    assert set(ALL_SCORES) <= set(re.findall(r"\w+", text))


def test_an_export_offers_the_scores_that_it_can_hold() -> None:
    text = CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "80"}).output
    assert set(ALL_SCORES) & set(re.findall(r"\w+", text)) == set(SCORES)


def test_a_narrow_terminal_shows_how_label_values_are_given() -> None:
    text = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "80"}).output
    assert {"normal=0", "anomaly=255", "void=7", "anomaly=2-200"} <= set(re.findall(r"\w+=[\d-]+", text))
