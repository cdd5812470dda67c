"""The executable ``eomt-ext``: loads at once, so that Ctrl-C ends it in order also while it imports the rest."""

from __future__ import annotations

from eomt_ext_core.exits import explained


def main() -> None:
    """Run a command."""
    with explained("eomt-ext"):
        from eomt_ext_core.cli import main as run

        run()
