"""The executables of ``ros2 run``: they load at once, so that Ctrl-C ends them in order also while they import."""

from __future__ import annotations

from eomt_ext_core.exits import explained


def anomaly_node() -> int:
    """``anomaly_node``: run the node; returns the exit code."""
    with explained("anomaly_node"):
        from eomt_ext_ros.node import main

        return main()


def replay() -> None:
    """``replay``: recorded bags through the engine."""
    with explained("replay"):
        from eomt_ext_ros.replay.command import main

        main()
