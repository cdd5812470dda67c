"""A training that is not watched on a terminal says now and then how far it is."""

from __future__ import annotations

import math
import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from eomt_ext_core.progress import ProgressLines


class TrainingLines(Callback):
    """A line with step, epoch, loss and time left on standard error now and then, unless that is a terminal."""

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
        self._say(trainer, "")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Say how far the validation is."""
        self._say(trainer, f", batch {batch_idx + 1} of validation")

    def _say(self, trainer: Trainer, where: str) -> None:
        if self._lines is None or not self._lines.is_due:
            return
        metrics = trainer.callback_metrics
        loss = metrics.get("train/loss_step", metrics.get("train/loss"))
        note = f"epoch {trainer.current_epoch + 1}{where}" + (f", loss {float(loss):.4f}" if loss is not None else "")
        self._lines.update(trainer.global_step, note)
