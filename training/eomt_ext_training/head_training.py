"""Train the anomaly head on the outputs of a frozen network, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import statistics
from rich.progress import Progress, track
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_training.scene_cache import SceneSet

VOID = 255


@dataclass(frozen=True)
class HeadTraining:
    """How the head is trained; rate and positive weight are the reference's."""

    steps: int = 4000
    batch_size: int = 16
    pixels_per_crop: int = 4096
    lr: float = 1e-4
    pos_weight: float = 10.0
    weight_decay: float = 0.01
    seed: int = 0


@torch.inference_mode()
def frozen_outputs(model: EoMTExt, scenes: SceneSet, batch_size: int = 8) -> Prediction:
    """Run the frozen network once over all scenes: a :class:`Prediction` of N rows in bfloat16."""
    parts = []
    for start in track(range(0, len(scenes), batch_size), "frozen outputs"):
        images = torch.from_numpy(np.array(scenes.images_rgb[start : start + batch_size]))
        prediction = model(images.permute(0, 3, 1, 2).float() / 255)
        parts.append([part.bfloat16() for part in prediction])
    return Prediction(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train_head(model: EoMTExt, outputs: Prediction, labels: np.ndarray, config: HeadTraining) -> list[float]:
    """Train ``model.anomaly_head`` in place, on pixels drawn anew at each step; nothing else of the model is touched.

    Args:
        model: with a head.
        outputs: of :func:`frozen_outputs`.
        labels: (N, H, W) uint8: 0 known, 1 anomaly, 255 void.
        config: steps, rates and seed.

    Returns:
        the loss at each step.
    """
    head = model.anomaly_head
    assert head is not None, "there is a head to train"
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    losses: list[float] = []
    with Progress() as progress:
        task = progress.add_task("head", total=config.steps)
        for step in range(config.steps):
            rows = np.sort(rng.choice(len(labels), min(config.batch_size, len(labels)), replace=False))
            points, targets = _draw_pixels(labels[rows], config.pixels_per_crop, rng)
            batch = Prediction(*(part[rows].float() for part in outputs))
            loss = head_loss(score_points(head, batch, points), targets, config.pos_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            progress.advance(task)
            if (step + 1) % 500 == 0:
                progress.console.print(f"step {step + 1}: loss {np.mean(losses[-500:]):.4f}", highlight=False)
    head.eval()
    return losses


def head_loss(logits: Tensor, targets: Tensor, pos_weight: float) -> Tensor:
    """Binary cross-entropy of anomaly logits, averaged over the pixels that are not void.

    Args:
        logits: any shape.
        targets: the same shape, uint8: 0 known, 1 anomaly, 255 void (contributes exactly nothing).
        pos_weight: weight of anomalous pixels.

    Returns:
        a scalar; 0 where every pixel is void.
    """
    valid = targets != VOID
    weight = logits.new_tensor(pos_weight)
    per_pixel = F.binary_cross_entropy_with_logits(
        logits, (targets == 1).to(logits.dtype), pos_weight=weight, reduction="none"
    )
    return per_pixel[valid].sum() / valid.sum().clamp(min=1)


def score_points(head: PixelAnomalyHead, prediction: Prediction, points: Tensor) -> Tensor:
    """Anomaly logits at chosen points: the literal head, but for its resizing, which is done at these points only.

    Args:
        head: the head.
        prediction: of B crops, float32.
        points: (B, P, 2) x and y in [−1, 1], pixel centres as in ``grid_sample(align_corners=False)``.

    Returns:
        (B, P) logits.
    """
    masks = _sample(prediction.mask_logits, points).sigmoid()
    classes = prediction.class_logits.softmax(dim=-1)[..., :-1]
    semantic = torch.einsum("bqp,bqc->bcp", masks, classes)
    features = prediction.features if head.feature_proj is None else head.feature_proj(prediction.features)
    visual = _sample(features, points).transpose(1, 2)
    logits: Tensor = head.mlp(torch.cat((statistics(semantic[:, :, None])[:, 0], visual), dim=-1))
    return logits[..., 0]


def _sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of (B, C, h, w) at (B, P, 2): (B, C, P)."""
    sampled = F.grid_sample(maps, points[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0]


def _draw_pixels(labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw pixels of each crop uniformly: their points (B, P, 2) and labels (B, P)."""
    batch, height, width = labels.shape
    y, x = rng.integers(0, height, (batch, count)), rng.integers(0, width, (batch, count))
    points = np.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), axis=-1).astype(np.float32)
    return torch.from_numpy(points), torch.from_numpy(labels[np.arange(batch)[:, None], y, x])
