"""The command ``eomt-ext-train``: Lightning's command line for the anomaly head."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from eomt_ext_core.about.record import start_record
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.exits import exit_on_error
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.head.export import BestCheckpoint, ExportBest
from eomt_ext_training.head.module import HeadModule, check_resumable
from eomt_ext_training.head.training_lines import TrainingLines

# Expected warnings of Lightning: the network stays in eval mode; both loggers write to the same folder; an epoch of few
# steps logs none of them, but its mean.
_EXPECTED_WARNINGS = (
    "Found .* in eval mode at the start of training",
    "Experiment logs directory .* is not empty",
    "The number of training batches .* is smaller than the logging interval",
)
_LIGHTNINGS_LOGS = ("lightning.fabric.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero")
_CHECKPOINT_KEYWORDS = ("best", "last", "hpc")
# Lightning's precisions with 16-bit weights, and their closest equivalents with 32-bit weights.
_MIXED = {"bf16-true": "bf16-mixed", "16-true": "16-mixed"}


class HeadTrainingCLI(LightningCLI):
    """One seed for everything, the best checkpoint by AuPRC, TensorBoard and CSV logs side by side."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's subcommands that the head supports."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name in ("fit", "validate")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that belong to neither trainer, model nor data."""
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/auprc",
                "checkpoint.mode": "max",
                "checkpoint.save_last": True,
                "checkpoint.filename": "epoch{epoch:03d}-auprc{val/auprc:.4f}",
                "checkpoint.auto_insert_metric_name": False,
            }
        )
        parser.add_argument("--run_name", default="head", help="folder of the logs under trainer.default_root_dir")
        for target in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_as_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Check the checkpoint to resume from, as Lightning's errors are unclear.

        Raises:
            CheckpointError: if it is not a checkpoint of the trainer.
        """
        super().parse_arguments(parser, args)
        subcommand = self.config.get("subcommand")
        path = self.config[subcommand].get("ckpt_path") if subcommand else None
        if path is not None and path not in _CHECKPOINT_KEYWORDS:
            check_resumable(path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Write TensorBoard and CSV logs into one folder, unless other loggers are configured."""
        trainer = self._get(self.config_init, "trainer")
        if trainer.precision in _MIXED:
            kwargs["precision"] = _MIXED[trainer.precision]
            rank_zero_warn(
                f"trainer.precision {trainer.precision} rounds the frozen network and the steps of the head: "
                f"{kwargs['precision']} is used instead"
            )
        if trainer.logger in (None, True):
            board = TensorBoardLogger(trainer.default_root_dir or "runs", self._get(self.config_init, "run_name"))
            kwargs["logger"] = [board, CSVLogger(board.save_dir, board.name, board.version)]
        return super().instantiate_trainer(**kwargs)


def run(args: Sequence[str] | None = None) -> HeadTrainingCLI:
    """Run the command line; returns its Lightning CLI.

    Raises:
        EomtExtError: if a setting, a checkpoint or the data break a rule.
    """
    start_record(tuple(sys.argv))
    for expected in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", expected)
    for name in _LIGHTNINGS_LOGS:
        logging.getLogger(name).addFilter(_is_no_advertisement)
    try:
        return HeadTrainingCLI(
            HeadModule,
            AnomalyData,
            args=None if args is None else list(args),
            seed_everything_default=0,
            trainer_defaults={"callbacks": [ExportBest(), TrainingLines()]},
        )
    except MisconfigurationException as error:  # how Lightning refuses a setting
        raise ConfigError(str(error)) from error


def main() -> None:
    """Run the command; report whatever ends it early in one line."""
    with exit_on_error("eomt-ext-train"):
        run()


def _is_no_advertisement(message: logging.LogRecord) -> bool:
    """Whether a message of Lightning is not its advice to install products of its maker."""
    return not message.getMessage().startswith("💡 Tip:")


def _as_seed(value: Any) -> int:
    """Convert ``seed_everything``, which may be a flag, to a seed."""
    return 0 if isinstance(value, bool) else int(value)


if __name__ == "__main__":
    main()
