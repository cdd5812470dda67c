"""The command ``eomt-ext-train-network``: an EoMT from scratch on known classes, for a head to be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from jsonargparse import auto_cli
from torch.utils.data import Dataset

from eomt_ext_core.config import ModelConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_training.data.sample import SemanticDataset
from eomt_ext_training.network_training import NetworkTraining, train_from_scratch


def train(
    model: ModelConfig,
    data: Dataset,  # type: ignore[type-arg]
    stages: list[NetworkTraining],
    output: Path = Path("runs/network.safetensors"),
    class_names: tuple[str, ...] = (),
) -> None:
    """Train an EoMT from scratch.

    Args:
        model: its architecture, with as many queries as classes.
        data: a data set of images and their known classes.
        stages: of training, one after the other.
        output: file to write, .safetensors.
        class_names: noted in the file.

    Raises:
        ConfigError: where the output is no .safetensors.
        DatasetError: where the data do not fit the model.
    """
    if output.suffix != ".safetensors":  # said before hours of work
        raise ConfigError(f"the network is saved as .safetensors, got output {str(output)!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    trained = train_from_scratch(model, cast(SemanticDataset, data), stages, output)
    trained.info = {"class_names": list(class_names)}
    save_model(trained, output)


def main() -> None:
    """Run the command; whatever ends it early is told in one line."""
    with exit_on_error("eomt-ext-train-network"):
        run()


def run() -> None:
    """Run the command line."""
    auto_cli(train, as_positional=False)


if __name__ == "__main__":
    main()
