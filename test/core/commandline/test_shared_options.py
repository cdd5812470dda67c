"""Options that all commands have, on a command of their own and on those of the package."""

import json
import logging
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from eomt_ext_core.cli import app as package
from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commandline.shared_options import with_shared_options
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import expanded
from eomt_ext_core.progress import tracked

log = logging.getLogger("eomt_ext_core.test")


def cook(
    meals: Annotated[list[str], typer.Argument()],
    scores: Annotated[str, typer.Option(help="which")] = "head",
    label_values: Annotated[str, typer.Option("--label-values")] = "none",
    count: Annotated[int, typer.Option(min=0)] = 1,
    fast: Annotated[bool, typer.Option("--fast/--slow")] = False,
) -> None:
    """Cook."""
    for _ in tracked(meals, "meals", len(meals)):
        log.info("cooking")
    typer.echo(f"{','.join(meals)} {scores} {label_values} {count} {fast}")
    print_result({"meals": meals, "taste": float("nan"), "path": Path("a")})


app = typer.Typer(pretty_exceptions_enable=False)
app.command()(with_shared_options(cook))


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def config(folder: Path, text: str) -> str:
    (folder / "c.yaml").write_text(text)
    return str(folder / "c.yaml")


def test_a_file_gives_what_the_command_line_leaves_out(tmp_path: Path) -> None:
    path = config(tmp_path, "scores: [head, msp]\nlabel-values: normal=0\ncount: 3\nfast: true\n")
    assert run("soup", "--config", path, "--count", "4").output == "soup head,msp normal=0 4 True\n"
    assert run("--config", config(tmp_path, "meals: [soup, rice]"), "--slow").output.startswith("soup,rice head")
    assert run("soup", "--config", config(tmp_path, "label_values: x")).output == "soup head x 1 False\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour: red", "'colour' is not an option; choose from count, fast, "),
        ("[1, 2]", "must hold options and values"),
        ("scores: {a: 1}", "must be a value or a list"),
        ("a: [", "is not YAML"),
        ("x" * (1 << 20) + ": 1", "at most 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_refused_before_any_work(tmp_path: Path, text: str, says: str) -> None:
    done = run("soup", "--config", config(tmp_path, text))
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)
    assert done.output == ""


def test_a_value_out_of_range_in_a_file_is_refused(tmp_path: Path) -> None:
    assert run("soup", "--config", config(tmp_path, "count: -1")).exit_code == 2


def test_json_takes_the_place_of_text() -> None:
    assert json.loads(run("soup", "--json").stdout) == {"meals": ["soup"], "taste": None, "path": "a"}


def test_quiet_prints_nothing() -> None:
    assert run("soup", "--quiet").output == ""
    assert json.loads(run("soup", "--quiet", "--json").output)["meals"] == ["soup"]


def test_the_log_level_is_that_of_the_package() -> None:
    assert isinstance(run("soup", "--log-level", "loud").exception, ConfigError)
    run("soup", "--log-level", "info")
    assert logging.getLogger("eomt_ext_core").level == logging.INFO
    logging.getLogger("eomt_ext_core").setLevel(logging.NOTSET)


def test_home_is_found_in_paths_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(one: Path, others: list[Path] | None = None) -> None:
        typer.echo(f"{one} {others}")

    monkeypatch.setenv("HOME", "/home/a")
    shown = typer.Typer()
    shown.command()(with_shared_options(show))
    path = config(tmp_path, "others: [~/x, y]")
    assert (
        "/home/a/z [PosixPath('/home/a/x'), PosixPath('y')]"
        in CliRunner().invoke(shown, ["~/z", "--config", path]).output
    )


def test_a_path_that_names_no_home_stays() -> None:
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")


def test_every_command_has_them_and_keeps_its_own_help() -> None:
    from typer.main import get_command

    commands = get_command(package).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        options = {option for item in command.params for option in item.opts}
        assert {"--json", "--quiet", "--log-level", "--config"} <= options, name
        assert all(getattr(item, "help", "") for item in command.params), name
