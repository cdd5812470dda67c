"""Training of the anomaly head on a frozen EoMT, with Lightning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed
from lightning.pytorch import LightningModule
from torch import Tensor

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.errors import CheckpointError, ConfigError, DatasetError
from eomt_ext_core.evaluation.metrics.pixel_metrics import PixelMetrics
from eomt_ext_core.model.checkpoint import load_model
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored import FactoredHead
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.head.factored_loss import loss_on_all_pixels, loss_on_pixels
from eomt_ext_training.head.feature_cache import FrozenSample, network_digest
from eomt_ext_training.head.losses import count_valid, pixel_losses
from eomt_ext_training.head.pixel_sampling import draw_pixels

_DIGEST = "frozen_network_digest"
_HEAD_PREFIX = "model.anomaly_head."
# Metadata of a checkpoint that do not apply to a new head.
_INFO_OF_HEAD = ("calibration", "threshold", "results", "training")
# Not those with 16-bit weights, which would round the frozen network and the steps of AdamW.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# Different seeds for dropout and draws, which must not be correlated.
_DROPOUT, _PIXELS = 0, 1


class HeadModule(LightningModule):
    """Train a new anomaly head; the EoMT has no gradients and is never saved by the trainer.

    What is random in a step follows from seed, epoch, batch and process, so that a resumed run goes on as if it had
    not been interrupted. Accumulated batches (``accumulate_grad_batches``) give the mean of their mean losses, each
    over its own valid pixels.

    Args:
        checkpoint: of the EoMT, as for ``eomt_ext_core.load_model``.
        crop_hw: crop to train at; by default that of the checkpoint.
        head: shape of the head.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        pos_weight: weight of anomalous pixels in the loss.
        pixels_per_crop: pixels drawn from each crop in each step; None for all.
        sampling: ``uniform``, or ``balanced`` between anomalous and normal pixels; the loss is unbiased in both.
        seed: of dropout and draws.

    Raises:
        ConfigError: if a number is out of its range.
        CheckpointError: if the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: str,
        crop_hw: tuple[int, int] | None = None,
        head: HeadConfig = HeadConfig(),  # noqa: B008 (frozen)
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        pos_weight: float = 10.0,
        pixels_per_crop: int | None = None,
        sampling: Literal["uniform", "balanced"] = "uniform",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sampling not in ("uniform", "balanced"):
            raise ConfigError(f"sampling must be 'uniform' or 'balanced', got {sampling!r}")
        for name, value in (("lr", lr), ("pos_weight", pos_weight)):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {value!r}")
        if not 0 <= weight_decay < math.inf:
            raise ConfigError(f"weight_decay must be a number from 0 on, got {weight_decay!r}")
        fewest = 2 if sampling == "balanced" else 1
        if pixels_per_crop is not None and pixels_per_crop < fewest:
            raise ConfigError(
                f"pixels_per_crop must be at least {fewest} for {sampling} sampling, or null for all pixels, "
                f"got {pixels_per_crop!r}"
            )
        self.strict_loading = False  # checkpoints of the trainer contain only the head
        self.model = with_new_head(load_model(checkpoint, None if crop_hw is None else {"crop_hw": crop_hw}), head)
        self.lr, self.weight_decay, self.pos_weight = lr, weight_decay, pos_weight
        self.pixels_per_crop, self.balanced, self.seed = pixels_per_crop, sampling == "balanced", seed
        self._validation = _Validation()

    @property
    def head(self) -> PixelAnomalyHead:
        """The head in training."""
        assert self.model.anomaly_head is not None, "it was given one"
        return self.model.anomaly_head

    def setup(self, stage: str) -> None:
        """Check that the precision does not change the frozen network.

        Raises:
            ConfigError: if it does.
        """
        if self.trainer.precision not in PRECISIONS:
            raise ConfigError(f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {self.trainer.precision}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create AdamW on the head's parameters only."""
        return torch.optim.AdamW(self.head.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def training_step(self, batch: Sample | FrozenSample, batch_idx: int) -> Tensor:
        """Compute the mean loss over the valid pixels of all processes; 0 if there are none."""
        prediction, labels = self._frozen(batch)
        # Lightning averages the gradients of processes: each divides by the mean number of valid pixels.
        num_valid = float(self.trainer.strategy.reduce(count_valid(labels), reduce_op="mean"))
        torch.manual_seed(self._step_seed(batch_idx, _DROPOUT))
        if self.pixels_per_crop is None:
            loss = loss_on_all_pixels(self.head, prediction, labels, self.pos_weight, num_valid or 1.0)
        else:
            generator = torch.Generator(labels.device).manual_seed(self._step_seed(batch_idx, _PIXELS))
            pixels = draw_pixels(labels, self.pixels_per_crop, balanced=self.balanced, generator=generator)
            size_hw = (labels.shape[1], labels.shape[2])
            loss = loss_on_pixels(self.head, prediction, size_hw, pixels, self.pos_weight, num_valid or 1.0)
        if num_valid:
            self.log("train/loss", loss, True, on_step=True, on_epoch=True, sync_dist=True, batch_size=len(labels))
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip the update of a step without valid pixels, which would decay weights and apply momentum.

        Returning no loss would do so too, but Lightning refuses that with several processes.
        """
        if not any(parameter.grad is not None and parameter.grad.any() for parameter in self.head.parameters()):
            optimizer.zero_grad(set_to_none=True)

    def validation_step(self, batch: Sample | FrozenSample, batch_idx: int) -> None:
        """Score and count every pixel."""
        prediction, labels = self._frozen(batch)
        size_hw = (labels.shape[1], labels.shape[2])
        logits = FactoredHead(self.head)(prediction.mask_logits, prediction.class_logits, size_hw, prediction.features)
        self._validation.add(logits[..., 0].float(), labels, self.pos_weight)

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss over valid pixels, AuPRC, FPR95 and AUROC, of all processes together."""
        counted, self._validation = self._validation_of_all(), _Validation()
        result = counted.metrics.compute()
        if self.trainer.sanity_checking:
            return
        if not 0 < result.num_anomalous < result.num_valid:  # possible with limit_val_batches
            raise DatasetError(
                "validation data must have anomalous and normal pixels for AuPRC and FPR95, got "
                f"{result.num_anomalous} and {result.num_valid - result.num_anomalous}"
            )
        self.log("val/loss", counted.loss_sum / counted.num_valid, rank_zero_only=False)
        for name in ("auprc", "fpr95", "auroc"):
            self.log(f"val/{name}", float(getattr(result, name)), prog_bar=name == "auprc", rank_zero_only=False)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the head's weights; the trainer saves nothing else."""
        return {key: value for key, value in super().state_dict(*args, **kwargs).items() if _HEAD_PREFIX in key}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the digest of the head's frozen network."""
        checkpoint[_DIGEST] = network_digest(self.model.network)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the head belongs to this network and has the configured shape.

        Raises:
            CheckpointError: if not.
        """
        if checkpoint.get(_DIGEST) != network_digest(self.model.network):
            raise CheckpointError(
                "the checkpoint's head was trained on another frozen network: resume with that network"
            )
        found = {key: tuple(value.shape) for key, value in checkpoint["state_dict"].items()}
        wanted = {_HEAD_PREFIX + key: tuple(value.shape) for key, value in self.head.state_dict().items()}
        if found != wanted:
            raise CheckpointError(f"the checkpoint must contain a head of the configured shape, got {found}")

    def _frozen(self, batch: Sample | FrozenSample) -> tuple[Prediction, Tensor]:
        """Return the outputs of the frozen network, cached or computed now, and the labels."""
        if isinstance(batch, FrozenSample):
            return Prediction(batch.mask_logits, batch.class_logits, batch.features), batch.labels
        crop_hw = self.model.config.crop_hw
        if tuple(batch.image.shape[2:]) != crop_hw:
            raise DatasetError(
                f"samples must be of the model's crop size {crop_hw}, got {tuple(batch.image.shape[2:])}: "
                f"set crop_hw of the data to {list(crop_hw)}"
            )
        with torch.no_grad():
            return self.model(batch.image.float() / 255), batch.labels

    def _step_seed(self, batch_idx: int, purpose: int) -> int:
        return hash((self.seed, self.current_epoch, batch_idx, self.global_rank, purpose)) % 2**63

    def _validation_of_all(self) -> _Validation:
        """Add up the counts of all processes, in the same order in each of them."""
        if self.trainer.world_size == 1:
            return self._validation
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, self._validation)
        total = _Validation()
        for counted in gathered:
            total.merge(counted)
        return total


@dataclass
class _Validation:
    """Counts of the validation data."""

    metrics: PixelMetrics = field(default_factory=PixelMetrics)
    loss_sum: float = 0.0
    num_valid: float = 0.0

    def add(self, logits: Tensor, labels: Tensor, pos_weight: float) -> None:
        """Add pixels: (B, H, W) float32 logits, and labels."""
        self.metrics.update(logits.cpu().numpy(), labels.cpu().numpy())
        self.loss_sum += float(pixel_losses(logits, labels, pos_weight).sum(dtype=torch.float64))
        self.num_valid += float(count_valid(labels))

    def merge(self, other: _Validation) -> None:
        """Add the counts of another process."""
        self.metrics.merge(other.metrics)
        self.loss_sum += other.loss_sum
        self.num_valid += other.num_valid


def with_new_head(model: EoMTExt, head: HeadConfig) -> EoMTExt:
    """Put a new head on a frozen network, and drop the metadata of an old one."""
    renewed = EoMTExt(model.config, head)
    renewed.network.load_state_dict(model.network.state_dict())
    renewed.info = {key: value for key, value in model.info.items() if key not in _INFO_OF_HEAD}
    return renewed


def check_resumable(checkpoint: str | Path) -> None:
    """Check that a file is a checkpoint of the trainer.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    if not Path(checkpoint).is_file():
        raise CheckpointError(f"the checkpoint to resume from must exist, got {checkpoint}")
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, and with unsafe advice
        raise CheckpointError(
            f"{checkpoint} must be a complete checkpoint of the trainer, torch cannot read it ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, dict) or "state_dict" not in loaded:
        raise CheckpointError(f"{checkpoint} must be a checkpoint of the trainer, it has no state_dict")


def head_state(checkpoint: str | Path) -> dict[str, Tensor]:
    """Read the head's weights from a checkpoint of the trainer, with the names of the head."""
    state: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {key.removeprefix(_HEAD_PREFIX): value for key, value in state.items()}
