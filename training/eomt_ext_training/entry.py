"""The executables of training: they load at once, so that Ctrl-C ends them in order also while they import the rest."""

from __future__ import annotations

from eomt_ext_core.exits import exit_on_error


def train() -> None:
    """``eomt-ext-train``: train the anomaly head."""
    with exit_on_error("eomt-ext-train"):
        from eomt_ext_training.cli import main

        main()


def train_network() -> None:
    """``eomt-ext-train-network``: train a network on known classes."""
    with exit_on_error("eomt-ext-train-network"):
        from eomt_ext_training.network_cli import main

        main()
