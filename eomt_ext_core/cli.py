"""``eomt-ext``: the commands of the core, and those that other packages add to it.

Modules of commands import without torch, so that ``--help`` is fast: a command imports what it runs when it runs.
"""

from __future__ import annotations

from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from eomt_ext_core.commandline.shared_options import joined_lines, with_shared_options
from eomt_ext_core.commands.bench import bench
from eomt_ext_core.commands.compare import compare
from eomt_ext_core.commands.convert import convert
from eomt_ext_core.commands.doctor import doctor
from eomt_ext_core.commands.evaluate import evaluate
from eomt_ext_core.commands.export import export
from eomt_ext_core.commands.info import info
from eomt_ext_core.commands.learn_normal import learn_normal
from eomt_ext_core.commands.predict import predict
from eomt_ext_core.evidence.command import evidence, verify
from eomt_ext_core.exits import exit_on_error

COMMAND_GROUP = "eomt_ext.commands"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


for command in (bench, compare, convert, doctor, evaluate, evidence, export, info, learn_normal, predict, verify):
    app.command()(with_shared_options(command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eomt-ext {version('eomt_ext_ros')}")
        raise typer.Exit


def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Road-anomaly perception with EoMT-EXT.

    Exit status of all commands: 0: complete; 1: refused, failed, or files that verify compares differ, the reason is on
    standard error; 2: an option is unknown, missing or not of its type; 3: something is missing or could not be read,
    all other results are there; 130: interrupted.
    """


app.callback(help=joined_lines(_group.__doc__ or ""))(_group)


def main() -> None:
    """Run a command; report whatever ends it early in one line."""
    with exit_on_error("eomt-ext"):
        add_commands()
        app()


def add_commands() -> None:
    """Add the commands of the other packages."""
    for entry in entry_points(group=COMMAND_GROUP):
        app.command(entry.name)(with_shared_options(entry.load()))


if __name__ == "__main__":
    main()
