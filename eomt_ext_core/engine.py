"""The one path of a frame: from an image to the anomaly probability of each of its pixels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core import windows
from eomt_ext_core.config import DEFAULT_THRESHOLD, SCORES, EngineConfig
from eomt_ext_core.errors import ConfigError, ImageError, InferenceError
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.calibration import LogitCalibration
from eomt_ext_core.scoring.factored import FactoredHead
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_probability, baseline_score, semantic_map
from eomt_ext_core.windows import WindowPlan

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class AnomalyFrame:
    """What the engine says of an image.

    Attributes:
        probability: (H, W) float32 in [0, 1], always finite.
        mask: (H, W) bool, where the probability is above the threshold.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]


class AnomalyEngine:
    """Run a model over images.

    Not for use by several threads at a time. The model passed in is left as it is.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`.
        config: how to run it.

    Attributes:
        device: where it runs.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        calibration: how the head's logits become probabilities, where the checkpoint holds a calibration; else None,
            and they do so by a plain sigmoid.

    Raises:
        ConfigError: where the device is not there, or the head is asked for and the model has none.
        CheckpointError: where the model's calibration is incomplete or out of range.
    """

    def __init__(self, model: EoMTExt, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.device = _choose_device(self.config.device)
        self.precision = _choose_precision(self.config.precision, self.device)
        _check_scores((self.config.score,), model)
        self.calibration = LogitCalibration.of(model.info)
        first = next(model.parameters())
        at_home = first.device == self.device and first.dtype == torch.float32 and not model.network.training
        self._model = model if at_home else copy.deepcopy(model).to(self.device, torch.float32).eval()
        self._head = FactoredHead(self._model.anomaly_head) if self._model.anomaly_head is not None else None

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the mask: the configuration's, the checkpoint's, or 0.5."""
        config = self.config  # another thread may replace it
        if config.threshold >= 0:
            return config.threshold
        if self.calibration is not None and config.score == "head":
            return self.calibration.threshold
        return DEFAULT_THRESHOLD

    def infer(self, image_rgb: NDArray[np.uint8]) -> AnomalyFrame:
        """Find what the model does not know in an image.

        Args:
            image_rgb: (H, W, 3) uint8.

        Raises:
            ImageError: where the image has another shape or type, or needs more windows than allowed.
            InferenceError: where the network gives a result that is not finite.
        """
        return self.infer_batch([image_rgb])[0]

    @torch.inference_mode()
    def infer_batch(self, images_rgb: Sequence[NDArray[np.uint8]]) -> list[AnomalyFrame]:
        """Do the same for several images, of any sizes, their windows together in one batch.

        Args:
            images_rgb: each (H, W, 3) uint8.

        Returns:
            a frame for each image, in order.
        """
        probabilities = [
            self._to_probability(maps[0], self.config.score) for maps in self._maps(images_rgb, (self.config.score,))
        ]
        threshold = self.threshold
        return [AnomalyFrame(probability, probability > threshold) for probability in probabilities]

    @torch.inference_mode()
    def score_maps(self, image_rgb: NDArray[np.uint8], scores: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Give several scores of an image from one pass of the network, each as :meth:`infer` would alone.

        Args:
            image_rgb: (H, W, 3) uint8.
            scores: names out of ``config.SCORES``, at least one, each once.

        Returns:
            for each name, in order, (H, W) float32 in [0, 1], always finite.

        Raises:
            ConfigError: where a name is unknown or there twice, or the head is asked for and the model has none.
            ImageError, InferenceError: as :meth:`infer`.
        """
        _check_scores(scores, self._model)
        maps = self._maps([image_rgb], scores)[0]
        return {name: self._to_probability(score, name) for name, score in zip(scores, maps, strict=True)}

    @torch.inference_mode()
    def logits(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the head's anomaly logits of an image, before any calibration: what a calibration is fitted on.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (H, W) float32, always finite.

        Raises:
            ConfigError: where the model has no head.
            ImageError, InferenceError: as :meth:`infer`.
        """
        _check_scores(("head",), self._model)
        logits = self._maps([image_rgb], ("head",))[0][0]
        self._check_finite(logits)
        result: NDArray[np.float32] = logits.cpu().numpy()
        return result

    def _maps(self, images_rgb: Sequence[NDArray[np.uint8]], scores: Sequence[str]) -> list[Tensor]:
        """For each image a (K, H, W) tensor of its K scores, before they are mapped to probabilities."""
        plans = [self._plan(image) for image in images_rgb]
        if not plans:
            return []
        crops = [
            windows.crop(windows.resize(_upload(image, self.device), plan), plan)
            for image, plan in zip(images_rgb, plans, strict=True)
        ]
        batches = torch.split(torch.cat(crops), self.config.batch_windows)
        per_window = torch.cat([self._score(batch, scores) for batch in batches])
        per_image = torch.split(per_window, [plan.num_windows for plan in plans])
        return [
            windows.to_image_size(windows.stitch(score, plan), plan)
            for score, plan in zip(per_image, plans, strict=True)
        ]

    def _plan(self, image: NDArray[np.uint8]) -> WindowPlan:
        if not isinstance(image, np.ndarray):
            raise ImageError(f"an image must be a numpy array, got {type(image).__name__}", reason="shape")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(f"an image must be (H, W, 3) uint8, got {image.shape} {image.dtype}", reason="shape")
        plan = windows.plan(image.shape[:2], self._model.config.crop_hw, self.config.windows)
        if plan.num_windows > self.config.max_windows:
            raise ImageError(
                f"an image may need at most max_windows = {self.config.max_windows} windows, a {image.shape[1]}×"
                f"{image.shape[0]} one needs {plan.num_windows}: crop it, or choose another window mode or scale",
                reason="dimensions",
            )
        return plan

    def _score(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """(N, 3, h, w) uint8 crops to (N, K, h, w) float32 scores that may be averaged where windows overlap."""
        with torch.autocast(self.device.type, _HALF.get(self.precision), enabled=self.precision in _HALF):
            prediction = Prediction(*(part.float() for part in self._model(crops.float() / 255)))
        size_hw = self._model.config.crop_hw
        maps: dict[str, Tensor] = {}
        if "head" in scores and self._head is not None:
            logits = self._head(prediction.mask_logits, prediction.class_logits, size_hw, prediction.features)
            maps["head"] = logits.permute(0, 3, 1, 2)
        kinds = [score for score in scores if score != "head"]
        if kinds:  # one window at a time: its semantic map is the largest tensor of all
            singles = zip(torch.split(prediction.mask_logits, 1), torch.split(prediction.class_logits, 1), strict=True)
            semantic = (semantic_map(*single, size_hw) for single in singles)
            stacked = torch.stack([torch.cat([baseline_score(window, kind) for kind in kinds]) for window in semantic])
            maps.update(zip(kinds, torch.split(stacked, 1, dim=1), strict=True))
        return torch.cat([maps[score] for score in scores], dim=1)

    def _to_probability(self, score: Tensor, name: str) -> NDArray[np.float32]:
        self._check_finite(score)  # an infinite logit is a finite probability
        if name == "head":
            probability = score.sigmoid() if self.calibration is None else self.calibration.probability(score)
        else:
            probability = baseline_probability(score, name, self._model.config.num_classes)
        result: NDArray[np.float32] = probability.cpu().numpy()
        return result

    def _check_finite(self, score: Tensor) -> None:
        broken = int(score.isfinite().logical_not_().sum())
        if broken:
            raise InferenceError(
                f"the network's result must be finite, got {broken} pixels that are not "
                f"(precision {self.precision} on {self.device})"
            )


def _check_scores(scores: Sequence[str], model: EoMTExt) -> None:
    if not scores or len(set(scores)) != len(scores) or not set(scores) <= set(SCORES):
        raise ConfigError(
            f"scores must be different names out of {', '.join(SCORES)}, got {', '.join(scores) or 'none'}"
        )
    if "head" in scores and model.anomaly_head is None:
        raise ConfigError(
            f"score 'head' needs a model with an anomaly head, this one has none: choose from {', '.join(BASELINES)}"
        )


def _upload(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(H, W, 3) array to a (3, H, W) tensor on the device."""
    writeable: NDArray[np.uint8] = np.require(image, requirements=["C", "W"])  # torch refuses other arrays, or warns
    return torch.from_numpy(writeable).to(device).permute(2, 0, 1)


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(f"device {name} is not there: torch sees {count} CUDA devices; choose auto or cpu")
        return torch.device("cuda", device.index or 0)
    return device


def _choose_precision(name: str, device: torch.device) -> str:
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" else "fp32"
