"""The executables of ``ros2 run``. This module imports in no time, so that Ctrl-C works during the slow imports too."""

from __future__ import annotations

from eomt_ext_core.exits import exit_on_error


def anomaly_node() -> int:
    """Run ``anomaly_node``; returns the exit code."""
    with exit_on_error("anomaly_node"):
        from eomt_ext_ros.node import main

        return main()


def replay() -> None:
    """Run ``replay``."""
    with exit_on_error("replay"):
        from eomt_ext_ros.replay.command import main

        main()
