"""The executables of training. This module imports in no time, so that Ctrl-C works during the slow imports too."""

from __future__ import annotations

from eomt_ext_core.exits import exit_on_error


def train() -> None:
    """Run ``eomt-ext-train``, which trains the anomaly head."""
    with exit_on_error("eomt-ext-train"):
        from eomt_ext_training.head.cli import main

        main()


def train_network() -> None:
    """Run ``eomt-ext-train-network``, which trains a network on semantic classes."""
    with exit_on_error("eomt-ext-train-network"):
        from eomt_ext_training.network.cli import main

        main()
