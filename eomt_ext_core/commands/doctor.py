"""``eomt-ext doctor``: what this machine has, and what to do about the rest."""

from __future__ import annotations

from dataclasses import asdict

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_NOTHING

_SIGNS = {"good": "ok", "missing": "--", "error": "!!"}


def doctor() -> None:
    """Look at Python, torch, GPU, ROS, DDS and the extras; say what is missing and the way out.

    Exit status: 0: everything is there; 3: something is missing that only some uses need; 1: nothing can run.
    """
    from eomt_ext_core.about.checks import all_checks

    found = list(all_checks())
    print_result([asdict(check) for check in found])
    for check in found:
        typer.echo(f"{_SIGNS[check.level]} {check.name:<16} {check.found}")
        if check.way_out:
            typer.echo(f"{'':20}-> {check.way_out}")
    levels = {check.level for check in found}
    if "error" in levels:
        raise typer.Exit(EXIT_NOTHING)
    if "missing" in levels:
        raise typer.Exit(EXIT_INCOMPLETE)
