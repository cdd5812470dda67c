"""Progress of a training without a terminal, as lines in the log."""

from __future__ import annotations

import math
import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from eomt_ext_core.progress import ProgressLines


class TrainingLines(Callback):
    """Write a line with step, epoch, loss and remaining time to standard error every 30 s, unless it is a terminal."""

    def __init__(self) -> None:
        self._lines: ProgressLines | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        if trainer.is_global_zero and not sys.stderr.isatty():
            total = trainer.estimated_stepping_batches
            self._lines = ProgressLines("step", int(total) if math.isfinite(total) else None, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the training is."""
        self._write(trainer, "")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Say how far the validation is."""
        self._write(trainer, f", batch {batch_idx + 1} of validation")

    def _write(self, trainer: Trainer, phase: str) -> None:
        if self._lines is None or not self._lines.is_due:
            return
        metrics = trainer.callback_metrics
        loss = metrics.get("train/loss_step", metrics.get("train/loss"))
        note = f"epoch {trainer.current_epoch + 1}{phase}" + (f", loss {float(loss):.4f}" if loss is not None else "")
        self._lines.update(trainer.global_step, note)
