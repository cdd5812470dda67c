"""Joint training of network and head, with averaged weights; continues an interrupted run from its last save."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from eomt_ext_core.config import check_options, option
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.files import atomic_write
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_training.built_in.joint_loss import JointLoss, head_loss
from eomt_ext_training.data.sample import SemanticDataset, SemanticSample
from eomt_ext_training.network.loss import NetworkLossWeights, network_loss

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointTraining:
    """Settings of the joint training: AdamW, a warm-up, a constant rate, and a linear decay to 0."""

    steps: int = option(3000, "optimizer steps", minimum=1)
    batch_size: int = option(8, "windows in a step", minimum=1)
    lr: float = option(3e-4, "highest learning rate", minimum=0.0)
    weight_decay: float = option(0.05, "of matrices", minimum=0.0)
    warmup_steps: int = option(100, "steps of linear warm-up", minimum=0)
    falling: float = option(0.4, "fraction of the steps in which the rate falls", minimum=0.0, maximum=1.0)
    averaging: float = option(0.998, "decay of the averaged weights", minimum=0.0, maximum=1.0)
    bf16: bool = True
    seed: int = 0
    loss: JointLoss = field(default_factory=JointLoss)

    def __post_init__(self) -> None:
        check_options(self)

    def rate(self, step: int) -> float:
        """Return the factor of the learning rate at a step.

        >>> training = JointTraining(steps=100, warmup_steps=10, falling=0.5)
        >>> [training.rate(step) for step in (0, 9, 49, 75)]
        [0.1, 1.0, 1.0, 0.5]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return min(1.0, (self.steps - step) / max(1.0, self.falling * self.steps))


class Averaged:
    """An exponential average of a model's weights; the first steps count more, so that the start is soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            self.state[key].lerp_(value, 1 - decay)


def train_together(
    model: EoMTExt,
    data: SemanticDataset,
    config: JointTraining,
    state_file: Path,
    *,
    save_every: int = 100,
    on_save: Callable[[int, EoMTExt], None] | None = None,
    num_workers: int = 0,
) -> EoMTExt:
    """Train all parameters of a model on the device that they are on, continuing from ``state_file`` if it exists.

    Item ``i`` of the data is in step ``i // batch_size``, so that a resumed run equals an uninterrupted one.

    Args:
        model: with a head, and as many queries as classes; its parameters are changed in place.
        data: ``steps · batch_size`` windows of the model's crop size.
        config: steps, rates and seed.
        state_file: state to resume from: weights, averaged weights, optimizer and step.
        save_every: steps between two of its saves.
        on_save: called after each with the step and the model with the averaged weights, in eval mode.
        num_workers: processes that make windows.

    Returns:
        the model with the averaged weights, in eval mode.

    Raises:
        CheckpointError: if the state file is of another training.
    """
    assert model.anomaly_head is not None, "there is a head to train"
    device = next(model.parameters()).device
    for block in model.network.encoder.backbone.blocks:
        block.attn.fused_attn = device.type != "cpu"  # there the fused kernel's backward pass takes twice as long
    model.requires_grad_(True)
    trained = nn.ModuleList([model.network, model.anomaly_head])
    optimizer = torch.optim.AdamW(_parameter_groups(trained, config.weight_decay), lr=config.lr)
    average = Averaged(model, config.averaging)
    first = _restore(state_file, model, optimizer, average, config)
    began, reported, recent = time.monotonic(), first, []
    for step, (images, semantic) in enumerate(_batches(data, config, first, num_workers), start=first):
        trained.train()
        torch.manual_seed(hash((config.seed, step)) % 2**63)  # of dropout
        for group in optimizer.param_groups:
            group["lr"] = config.lr * config.rate(step)
        parts = _loss(model, images.to(device), semantic.to(device), config, step)
        optimizer.zero_grad(set_to_none=True)
        sum(parts.values(), torch.zeros((), device=device)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        recent.append({name: float(part.detach()) for name, part in parts.items()})
        done = step + 1
        if done % 25 == 0:
            rate = (time.monotonic() - began) / (done - reported)
            means = [_mean([row[name] for row in recent if name in row]) for name in ("head", "classes")]
            left = rate * (config.steps - done) / 60
            _log.info("step %d of %d: head %.3f, classes %.3f, %.0f min left", done, config.steps, *means, left)
            began, reported, recent = time.monotonic(), done, []
        if done % save_every == 0 or done == config.steps:
            _save(state_file, model, optimizer, average, config, done)
            if on_save is not None:
                on_save(done, with_weights(model, average.state))
    return with_weights(model, average.state)


def with_weights(model: EoMTExt, state: dict[str, Tensor]) -> EoMTExt:
    """Copy a model with other weights, on the CPU, in eval mode."""
    assert model.anomaly_head is not None
    copy = EoMTExt(model.config, model.anomaly_head.config)
    copy.load_state_dict(state)
    copy.info = dict(model.info)
    return copy.eval()


def averaged(models: Sequence[EoMTExt], fractions: Sequence[float] | None = None) -> EoMTExt:
    """Average the weights of models of the same architecture; returns a model in eval mode.

    Args:
        models: at least one.
        fractions: weight of each model, with a sum of 1; equal by default.
    """
    if fractions is None:
        fractions = [1 / len(models)] * len(models)
    states = [model.state_dict() for model in models]
    parts = list(zip(states, fractions, strict=True))
    return with_weights(models[0], {key: sum(part[key] * fraction for part, fraction in parts) for key in states[0]})


def _loss(model: EoMTExt, images: Tensor, semantic: Tensor, config: JointTraining, step: int) -> dict[str, Tensor]:
    assert model.anomaly_head is not None
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
        prediction = model.network(images.float() / 255)
    parts = {"head": config.loss.head * head_loss(model.anomaly_head, prediction, semantic, config.loss)}
    if step % config.loss.classes_every == 0:
        parts["classes"] = network_loss(prediction, semantic, NetworkLossWeights())
    return parts


def _batches(data: SemanticDataset, config: JointTraining, first: int, num_workers: int) -> DataLoader[SemanticSample]:
    """Yield the batches from a step on, in order: their content is already random."""
    rest = Subset(
        cast("Dataset[SemanticSample]", data), range(first * config.batch_size, config.steps * config.batch_size)
    )
    return DataLoader(rest, config.batch_size, num_workers=num_workers)


def _parameter_groups(trained: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [parameter for parameter in trained.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in trained.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _save(
    file: Path, model: EoMTExt, optimizer: torch.optim.Optimizer, average: Averaged, config: JointTraining, step: int
) -> None:
    content = {
        "training": repr(asdict(config)),
        "step": step,
        "model": model.state_dict(),
        "averaged": average.state,
        "optimizer": optimizer.state_dict(),
    }
    with atomic_write(file) as temporary:
        torch.save(content, temporary)


def _restore(
    file: Path, model: EoMTExt, optimizer: torch.optim.Optimizer, average: Averaged, config: JointTraining
) -> int:
    """Load a saved state; returns the next step."""
    if not file.is_file():
        return 0
    device = next(model.parameters()).device
    content = torch.load(file, map_location=device, weights_only=True)
    if content["training"] != repr(asdict(config)):
        raise CheckpointError(
            f"{file} is of another training: move it away to start again, or use its settings, {content['training']}"
        )
    model.load_state_dict(content["model"])
    average.state = content["averaged"]
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])
