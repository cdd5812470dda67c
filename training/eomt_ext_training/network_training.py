"""Train an EoMT from scratch on labelled scenes of known classes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from eomt_ext_core.model.eomt import EoMT
from rich.progress import Progress
from torch import Tensor

from eomt_ext_training.network_loss import NetworkLossWeights, network_loss
from eomt_ext_training.scene_cache import SceneSet


@dataclass(frozen=True)
class NetworkTraining:
    """How the network is trained."""

    steps: int = 4000
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    bf16: bool = True
    seed: int = 0
    loss: NetworkLossWeights = field(default_factory=NetworkLossWeights)


def train_network(network: EoMT, scenes: SceneSet, config: NetworkTraining) -> list[float]:
    """Train all parameters of ``network`` in place.

    Args:
        network: with as many queries as there are classes.
        scenes: of the network's crop size.
        config: steps, rates and seed.

    Returns:
        the loss at each step.
    """
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    network.requires_grad_(True).train()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=config.lr
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, config))
    losses: list[float] = []
    began = time.monotonic()
    with Progress() as progress:
        task = progress.add_task("network", total=config.steps)
        for step in range(config.steps):
            rows = np.sort(rng.choice(len(scenes), config.batch_size, replace=len(scenes) < config.batch_size))
            images, semantic = _augment(scenes.images_rgb[rows], scenes.semantic[rows], rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                prediction = network(images)
            loss = network_loss(prediction, semantic, config.loss)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            progress.advance(task)
            if (step + 1) % 100 == 0:
                rate = (step + 1) * config.batch_size / (time.monotonic() - began)
                progress.console.print(
                    f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}, {rate:.1f} images/s", highlight=False
                )
    network.requires_grad_(False).eval()
    return losses


def _warmup_cosine(step: int, config: NetworkTraining) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _augment(images: np.ndarray, semantic: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirror half of the images; vary gain and gamma of each, and the gain of each channel."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    labels = torch.from_numpy(np.ascontiguousarray(semantic))
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5)
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    labels = torch.where(mirrored[:, None, None], labels.flip(2), labels)
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.1, (len(images), 1, 1, 1)) + rng.normal(0, 0.04, (len(images), 3, 1, 1))))
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.12, (len(images), 1, 1, 1))))
    batch = (batch.pow(gamma.float()) * gain.float()).clamp_(0, 1)
    return batch, labels
