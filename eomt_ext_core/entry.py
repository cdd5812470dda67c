"""The executable ``eomt-ext``. This module imports in no time, so that Ctrl-C works during the slow imports too."""

from __future__ import annotations

from eomt_ext_core.exits import exit_on_error


def main() -> None:
    """Run a command."""
    with exit_on_error("eomt-ext"):
        from eomt_ext_core.cli import main as run

        run()
