"""``eomt-ext info``: what a file is."""

from __future__ import annotations

from typing import Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options


def info(
    file: Annotated[
        str, typer.Argument(help="checkpoint, head, export, file of learn-normal, metrics.json or its folder; or demo")
    ],
    head: options.Head = None,
) -> None:
    """Say what a file is and holds: architecture, classes, calibration, guarantee, provenance, checksum.

    Nothing in the file is executed and no network is made. Exit status: 0, or 1 if the file cannot be used.
    """
    from eomt_ext_core.about.file_facts import facts_of
    from eomt_ext_core.about.text import lines_of
    from eomt_ext_core.files import valid_text

    facts = valid_text(facts_of(file, None if head is None else str(head)))
    print_result(facts)
    for line in lines_of(facts):
        typer.echo(line)
