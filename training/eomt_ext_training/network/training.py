"""Training of an EoMT from scratch on images with semantic classes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler

from eomt_ext_core.config import ModelConfig, check_options, option
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.progress import progress
from eomt_ext_training.data.augmentation import vary_light
from eomt_ext_training.data.sample import SemanticDataset, SemanticSample
from eomt_ext_training.network.loss import NetworkLossWeights, network_loss
from eomt_ext_training.network.outlier_probe import OutlierProbe

_log = logging.getLogger(__name__)

# DINOv2 starts its layer scales at 1e-5, for training with a teacher; from scratch, blocks that begin as nearly the
# identity lose most of a short training.
_LAYER_SCALE = 0.5


@dataclass(frozen=True)
class NetworkTraining:
    """Settings of the training: AdamW with a warm-up and a cosine decay to 0."""

    steps: int = option(4000, "optimizer steps", minimum=1)
    batch_size: int = option(8, "images in a step", minimum=1)
    shrink: int = option(1, "factor by which images and labels are shrunk", minimum=1)
    lr: float = option(1e-3, "highest learning rate", minimum=0.0)
    weight_decay: float = option(0.05, "of matrices", minimum=0.0)
    warmup_steps: int = option(200, "steps of linear warm-up", minimum=0)
    bf16: bool = True
    outlier_weight: float = option(0.0, "of the outlier probe's loss, next to that of the classes", minimum=0.0)
    num_workers: int = option(0, "processes that load images", minimum=0)
    seed: int = 0
    loss: NetworkLossWeights = field(default_factory=NetworkLossWeights)

    def __post_init__(self) -> None:
        check_options(self)


def train_from_scratch(
    config: ModelConfig, data: SemanticDataset, stages: Sequence[NetworkTraining], output: str | Path
) -> EoMTExt:
    """Train a new network in stages, for example on shrunken and then on full images.

    Args:
        config: architecture, with as many queries as classes.
        data: images of its crop size.
        stages: one after the other; between them the position embedding is resampled.
        output: ``.safetensors`` file, written after each stage.

    Returns:
        the trained network in the file, without a head.
    """
    if not stages:
        raise DatasetError("there must be at least one stage of training, got none")
    torch.manual_seed(stages[0].seed)
    model = EoMTExt(_shrunken(config, stages[0].shrink))
    for name, parameter in model.network.encoder.backbone.named_parameters():
        if name.rpartition(".")[2] in ("gamma", "gamma_1", "gamma_2"):
            torch.nn.init.constant_(parameter, _LAYER_SCALE)
    train_network(model.network, data, stages[0])
    save_model(model, output)
    for stage in stages[1:]:
        train_further(output, config, data, stage, output)
    return load_model(output, config)


def train_further(
    checkpoint: str | Path, config: ModelConfig, data: SemanticDataset, stage: NetworkTraining, output: str | Path
) -> None:
    """Train a network for another stage.

    Args:
        checkpoint: the network; its position embedding is resampled to the stage's size.
        config: its architecture.
        data: images of its crop size.
        stage: settings of the stage.
        output: ``.safetensors`` file to write.
    """
    model = load_model(checkpoint, _shrunken(config, stage.shrink))
    train_network(model.network, data, stage)
    save_model(model, output)


def _shrunken(config: ModelConfig, shrink: int) -> ModelConfig:
    height, width = config.crop_hw
    return replace(config, crop_hw=(height // shrink, width // shrink))


def train_network(network: EoMT, data: SemanticDataset, config: NetworkTraining) -> list[float]:
    """Train all parameters of ``network`` in place, on its device.

    Args:
        network: with as many queries as there are classes.
        data: images of the network's crop size times ``config.shrink``.
        config: steps, rates and seed.

    Returns:
        the loss at each step.

    Raises:
        DatasetError: if there are no images, or one has not the size of the crop.
    """
    if not len(data):
        raise DatasetError("the data must have at least one image, got none")
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    device = network.q.weight.device
    network.requires_grad_(True).train()
    trained = nn.ModuleList([network])
    probe = OutlierProbe(network.encoder.embed_dim).to(device) if config.outlier_weight else None
    if probe is not None:
        trained.append(probe)
    optimizer = torch.optim.AdamW(_parameter_groups(trained, config.weight_decay), lr=config.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, config))
    losses: list[float] = []
    began = time.monotonic()
    with progress("network, step", config.steps) as update:
        for step, (images, semantic) in enumerate(_batches(data, config)):
            images, semantic = _prepared(images, semantic, config.shrink, rng)
            if tuple(images.shape[2:]) != network.config.crop_hw:
                raise DatasetError(
                    f"images must be {config.shrink} times the crop {network.config.crop_hw}, "
                    f"got {tuple(images.shape[2:])} after shrinking"
                )
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                prediction = network(images.to(device))
            semantic = semantic.to(device)
            loss = network_loss(prediction, semantic, config.loss)
            if probe is not None:
                loss = loss + config.outlier_weight * probe(prediction.features, semantic)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            update(step + 1, f"loss {np.mean(losses[-100:]):.3f}")
            if (step + 1) % 100 == 0:
                rate = (step + 1) * config.batch_size / (time.monotonic() - began)
                _log.info("step %d: loss %.3f, %.1f images/s", step + 1, np.mean(losses[-100:]), rate)
    network.requires_grad_(False).eval()
    return losses


def _batches(data: SemanticDataset, config: NetworkTraining) -> DataLoader[SemanticSample]:
    """Yield the batches of all steps; every image is used once before any is repeated."""
    images = cast("Dataset[SemanticSample]", data)
    generator = torch.Generator().manual_seed(config.seed)
    sampler = RandomSampler(data, num_samples=config.steps * config.batch_size, generator=generator)
    return DataLoader(images, config.batch_size, sampler=sampler, num_workers=config.num_workers)


def _parameter_groups(trained: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    decayed = [parameter for parameter in trained.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in trained.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _warmup_cosine(step: int, config: NetworkTraining) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _prepared(images: Tensor, semantic: Tensor, shrink: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shrink a batch, mirror half of it and vary its light: (B, 3, h, w) in [0, 1] and (B, h, w)."""
    batch, labels = images.float().div_(255), semantic
    if shrink > 1:
        batch, labels = F.avg_pool2d(batch, shrink), labels[:, shrink // 2 :: shrink, shrink // 2 :: shrink]
    mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5)
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    labels = torch.where(mirrored[:, None, None], labels.flip(2), labels)
    return vary_light(batch, rng), labels
