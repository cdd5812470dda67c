"""The command ``eomt-ext-train-network``: train an EoMT from scratch on semantic classes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from jsonargparse import auto_cli
from torch.utils.data import Dataset

from eomt_ext_core.about.record import make_record, start_record, with_record
from eomt_ext_core.config import ModelConfig
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.files import check_output_file
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_training.data.sample import SemanticDataset
from eomt_ext_training.network.training import NetworkTraining, train_from_scratch


def train(
    model: ModelConfig,
    data: Dataset,  # type: ignore[type-arg]
    stages: list[NetworkTraining],
    output: Path = Path("runs/network.safetensors"),
    class_names: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Train an EoMT from scratch.

    Args:
        model: architecture of the EoMT, with as many queries as classes.
        data: a data set of images and their semantic classes.
        stages: of the training, in order.
        output: file to write, .safetensors.
        class_names: stored in the file.
        overwrite: replace the output if it is there.

    Raises:
        ConfigError: if the output is not .safetensors, or is there and may not be replaced.
        DatasetError: if the data do not fit the model.
    """
    check_output_file(output, overwrite, ".safetensors")  # before hours of work
    output.parent.mkdir(parents=True, exist_ok=True)
    trained = train_from_scratch(model, cast(SemanticDataset, data), stages, output)
    trained.info = with_record({"class_names": list(class_names)}, make_record())
    save_model(trained, output)


def main() -> None:
    """Run the command; report whatever ends it early in one line."""
    start_record(tuple(sys.argv))
    with exit_on_error("eomt-ext-train-network"):
        run()


def run() -> None:
    """Run the command line."""
    auto_cli(train, as_positional=False)


if __name__ == "__main__":
    main()
