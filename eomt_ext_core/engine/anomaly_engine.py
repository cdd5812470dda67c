"""The engine: images in, anomaly frames out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core import windows
from eomt_ext_core.backends.device import device_name
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import DISTANCE, SEMANTIC, WindowScorer
from eomt_ext_core.config import SCORES, EngineConfig, WindowConfig
from eomt_ext_core.engine.checks import check_change, check_distance, check_scores, check_semantic, has_semantic
from eomt_ext_core.engine.frame import ALL_OF_SCORE, ALL_PARTS, AnomalyFrame, Explanation, Part, SubmittedBatch
from eomt_ext_core.engine.frame_path import FramePath, unmarked
from eomt_ext_core.engine.loading import load_scorer, torch_scorer
from eomt_ext_core.engine.self_test import check_known_answer
from eomt_ext_core.engine.threshold import describe_classes, describe_threshold, has_threshold, threshold_in_force
from eomt_ext_core.engine.transfer import IN_FLIGHT
from eomt_ext_core.errors import ConfigError, ImageError, InferenceError
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.normality.normality import Normality
from eomt_ext_core.scoring.calibration import LogitCalibration
from eomt_ext_core.scoring.probe import GRID_HW
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_probability, statistics
from eomt_ext_core.stages import STITCH


class AnomalyEngine:
    """Run a model over images.

    Use it in one thread at a time; only ``config`` may be replaced by another thread. The model that you pass does not
    change.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`, or another scorer of windows.
        config: how to run it.
        normality: learnt from a drive with this model, or none.
        most_images: most images at a time, if that is known: no batches of more windows than they have are prepared.

    Attributes:
        device: that it runs on.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        crop_hw: size in pixels of a window.
        class_names: of the semantic classes, in the order of their ids; empty if the checkpoint names none.
        calibrations: how scores become probabilities, by the score's name, if the checkpoint has a calibration of it.
        fitting_windows: most windows at a time for which the warm-up found memory; None if it was enough for as many as
            configured.

    Raises:
        ConfigError: if the device does not exist, or the score is the head's and the model has none.
        CheckpointError: if the model's calibration is incomplete or out of range, or its class names do not fit.
    """

    def __init__(
        self,
        model: EoMTExt | WindowScorer,
        config: EngineConfig | None = None,
        normality: Normality | None = None,
        most_images: int | None = None,
    ) -> None:
        self._config = config or EngineConfig()
        self._scorer = torch_scorer(model, self._config, normality) if isinstance(model, EoMTExt) else model
        check_scores((self._config.score,), self._scorer)
        self.device, self.precision = self._scorer.device, self._scorer.precision
        self.crop_hw, self.class_names = self._scorer.crop_hw, self._scorer.class_names
        found = {name: LogitCalibration.of(self._scorer.info, name) for name in SCORES}
        self.calibrations = {name: each for name, each in found.items() if each is not None}
        self._path = FramePath(self._scorer, most_images)
        self._origin: dict[str, str] = {}
        self._images_hw: tuple[tuple[int, int], ...] = ()
        self.fitting_windows: int | None = None
        self.warm_up()

    @classmethod
    def load(
        cls,
        source: str | Path,
        config: EngineConfig | None = None,
        head: str | Path | None = None,
        *,
        normality: str | Path | None = None,
        most_images: int | None = None,
        download: bool = True,
    ) -> AnomalyEngine:
        """Load an engine from a file.

        Args:
            source: what :func:`~eomt_ext_core.model.checkpoint.load_model` takes; an exported ONNX file unless
                ``config.backend`` is ``torch``.
            config: how to run it.
            head: a separate file with the anomaly head, for a checkpoint.
            normality: a file of ``eomt-ext learn-normal`` for this checkpoint and head, or none.
            most_images: as for the engine itself.
            download: whether ``hf://owner/name`` is allowed; if not, no error suggests it.

        Raises:
            CheckpointError, ConfigError: as ``load_model`` and the engine itself.
            InferenceError: if the file holds a known answer, and the model gives another one on this machine.
        """
        config = config or EngineConfig()
        scorer, origin = load_scorer(source, config, head, normality=normality, download=download)
        engine = cls(scorer, config, most_images=most_images)
        engine._origin = origin | {"self_test": engine.self_test()}
        return engine

    @property
    def config(self) -> EngineConfig:
        """How it runs. Live options may be replaced at any time: thresholds, score, windows and batches.

        Raises:
            ConfigError: if the new one differs in another option, or the model lacks the score.
        """
        return self._config

    @config.setter
    def config(self, config: EngineConfig) -> None:
        self._config = self.checked(config)

    def checked(self, config: EngineConfig) -> EngineConfig:
        """Return a configuration if the engine can run under it from now on.

        Raises:
            ConfigError: if an option that is not live differs from the engine's own, or the model lacks the score.
        """
        check_change(self._config, config)
        check_scores((config.score,), self._scorer)
        return config

    @property
    def scorer(self) -> WindowScorer:
        """What scores its windows."""
        return self._scorer

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the mask.

        It comes from what :func:`~eomt_ext_core.engine.threshold.threshold_in_force` chooses.
        """
        return self.threshold_of(self._config)

    @property
    def has_threshold(self) -> bool:
        """Whether there is one: an uncalibrated baseline has none unless one is set."""
        return has_threshold(self._config, self.calibrations)

    def threshold_of(self, config: EngineConfig) -> float:
        """The same under another configuration.

        Raises:
            ConfigError: if neither it nor the checkpoint has a threshold, and the score is a baseline, which needs one.
        """
        return threshold_in_force(config, self.calibrations).value

    def batch_windows_of(self, config: EngineConfig) -> int:
        """Most windows that go through the network at a time: those configured, or fewer if it takes no more."""
        return self._path.batch_windows_of(config)

    @property
    def has_semantic(self) -> bool:
        """Whether it can give the semantic class of each pixel; an exported file may lack them."""
        return has_semantic(self._scorer)

    @property
    def normality(self) -> Normality | None:
        """What it learnt from a drive; None if it has no such file."""
        return self._scorer.normality if isinstance(self._scorer, TorchWindowScorer) else None

    def describe(self, config: EngineConfig | None = None) -> dict[str, str]:
        """Describe it to an operator: device, precision, backend, scoring path, checkpoint …

        Args:
            config: to run under, instead of its own.
        """
        config = config or self._config
        return {
            "device": str(self.device),
            "device_name": device_name(self.device),
            "precision": self.precision,
            **self._scorer.describe(),
            "crop": f"{self.crop_hw[1]}×{self.crop_hw[0]}",
            "windows": config.windows.mode,
            "score": config.score,
            **describe_threshold(config, self.calibrations),
            "classes": describe_classes(self.class_names, self._scorer.num_classes),
            **self._origin,
        }

    def free_memory(self) -> None:
        """Free memory of the device that can be allocated again, for example after it ran out."""
        self._scorer.free_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def marking(self, mark: Callable[[str], None]) -> Iterator[None]:
        """Call ``mark`` with a name of :mod:`~eomt_ext_core.stages` at the end of each stage, to measure them."""
        self._path.mark = mark
        try:
            yield
        finally:
            self._path.mark = unmarked

    def warm_up(self, *, semantic: bool = False, config: EngineConfig | None = None) -> None:
        """Do now what is done once, so that the next image is as fast as all others: compile, capture, choose.

        A new engine has done it for its configuration.

        Args:
            semantic: for images that are submitted for their semantic classes too.
            config: for images that are submitted under it instead of the engine's own.

        Raises:
            ConfigError: if there are no such classes, or the engine cannot run under the configuration.
        """
        config, (height, width) = self._config if config is None else self.checked(config), self.crop_hw
        if semantic:
            check_semantic(self._scorer)
        with self._path.on_device():
            batch = self._most_windows(config)
            fitting = self._scorer.warm_up(self._names(config, semantic), batch)
        if fitting < batch:
            self.fitting_windows = fitting
        one_window = replace(config, windows=replace(config.windows, mode="eomt"))
        self._try([(2 * height, 2 * width)], semantic, one_window)
        self.prepare(self._images_hw, semantic=semantic, config=config)

    @property
    def images_hw(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths of the images of the last batch, for :meth:`prepare` of another engine."""
        return self._images_hw

    def prepare(
        self, images_hw: Sequence[tuple[int, int]], *, semantic: bool = False, config: EngineConfig | None = None
    ) -> None:
        """Make now what the first batch of images of these sizes would make; on a CPU there is nothing of it.

        Args:
            images_hw: heights and widths of the images.
            semantic, config: as for :meth:`warm_up`.
        """
        if images_hw and self._path.stages:
            self._try(images_hw, semantic, self._config if config is None else self.checked(config))

    def _try(self, images_hw: Sequence[tuple[int, int]], semantic: bool, config: EngineConfig) -> None:
        """Process black images; what is wrong with the model, or a size, an image reports."""
        parts = ALL_PARTS if semantic else ALL_PARTS - {"semantic"}
        images, before = [np.zeros((*size, 3), np.uint8) for size in images_hw], self._images_hw
        with suppress(InferenceError, ImageError), self._path.preparing():
            # any threshold, as a score may have none
            self.collect(self.submit(images, parts=parts, config=replace(config, threshold=1.0)))
        self._images_hw = before

    def is_warm(self, config: EngineConfig, *, semantic: bool = False) -> bool:
        """Whether images under a configuration find everything done that :meth:`warm_up` does for it."""
        return self._scorer.is_warm(self._names(config, semantic), self._most_windows(config))

    def _most_windows(self, config: EngineConfig) -> int:
        """Most windows that go through the network at a time, as far as is known of the memory."""
        return min(self.fitting_windows or config.batch_windows, self.batch_windows_of(config))

    def infer(self, image_rgb: NDArray[np.uint8]) -> AnomalyFrame:
        """Find what the model does not know in an image.

        Args:
            image_rgb: (H, W, 3) uint8.

        Raises:
            ConfigError: if there is no threshold for the mask, as in :meth:`threshold_of`.
            ImageError: if the image has another shape or type, or needs more windows than allowed.
            InferenceError: if the network gives a result that is not finite, or the same for every pixel.
        """
        return self.infer_batch([image_rgb])[0]

    def infer_batch(
        self,
        images_rgb: Sequence[NDArray[np.uint8]],
        *,
        semantic: bool = False,
        config: EngineConfig | None = None,
    ) -> list[AnomalyFrame]:
        """Do the same for several images, of any sizes, their windows together in one batch.

        Args:
            images_rgb: each (H, W, 3) uint8.
            semantic: give the semantic class of each pixel too: the arg max of the semantic map, stitched and resized
                as the score is.
            config: as for :meth:`submit`.

        Returns:
            a frame for each image, in order, with probability and mask.

        Raises:
            Exception: as :meth:`submit` and :meth:`collect`.
        """
        parts = {*ALL_OF_SCORE, "semantic"} if semantic else ALL_OF_SCORE
        return self.collect(self.submit(images_rgb, parts=parts, config=config))

    @torch.inference_mode()
    def submit(
        self,
        images_rgb: Sequence[NDArray[np.uint8]],
        *,
        parts: Collection[Part] = ALL_OF_SCORE,
        config: EngineConfig | None = None,
    ) -> SubmittedBatch:
        """Begin with a batch of images, which :meth:`collect` ends.

        On a GPU this returns when the work is queued, and other batches can be submitted meanwhile: upload,
        computation and download of successive batches overlap. On a CPU all the work is done here. The images must not
        change until the batch is collected, and batches are collected in the order of their submission.

        Args:
            images_rgb: each (H, W, 3) uint8.
            parts: what the frames hold; nothing else is downloaded.
            config: to run under instead of the engine's own; only live options may differ. Later changes of the
                engine's own do not affect the batch.

        Raises:
            ConfigError: if semantic classes are asked for and the model has none, or more than 256; if the mask is
                asked for and there is no threshold; or if the engine cannot run under ``config``.
            ImageError: if an image has another shape or type, or needs more windows than allowed.
            torch.cuda.OutOfMemoryError, MemoryError: if memory is short; the batch is given up.
        """
        config = self._config if config is None else self.checked(config)  # another thread may replace its own
        semantic = "semantic" in parts
        if semantic:
            check_semantic(self._scorer)
        threshold = self.threshold_of(config) if "mask" in parts else None
        names = self._names(config, semantic)
        scores, results = [], dict[str, list[Tensor]]()
        with self._path.on_device():
            for plan, stitched in self._path.stitched(images_rgb, names, config):
                score = windows.to_image_size(stitched[:1], plan)[0]
                self._path.mark(STITCH)
                scores.append(score)
                of_image = self._parts_of(score, config.score, threshold, parts)
                if semantic:
                    of_image["semantic"] = windows.classes_at_image_size(stitched[len(names) - 1 :], plan)
                if DISTANCE in names:
                    of_image["strangeness"] = stitched[1].mean()
                for name, result in of_image.items():
                    results.setdefault(name, []).append(result)
            self._images_hw = tuple((image.shape[0], image.shape[1]) for image in images_rgb)
            flat = [result for of_image in zip(*results.values(), strict=True) for result in of_image]
            return SubmittedBatch(len(images_rgb), tuple(results), self._path.download(flat, scores, images_rgb))

    def collect(self, batch: SubmittedBatch) -> list[AnomalyFrame]:
        """Wait for a batch.

        Args:
            batch: from :meth:`submit` of this engine.

        Returns:
            a frame for each image, in order.

        Raises:
            InferenceError: if the network gives a result for an image that is not finite, or the same for every pixel.
        """
        with self._path.on_device():
            return batch.frames()

    @property
    def most_in_flight(self) -> int:
        """How many batches to submit before the first is collected: more of them gain nothing."""
        return IN_FLIGHT if self.device.type == "cuda" else 1

    def _parts_of(
        self, score: Tensor, name: str, threshold: float | None, parts: Collection[Part]
    ) -> dict[str, Tensor]:
        """What a frame holds of the named score of an image, (H, W) each; a mask if there is a threshold for it."""
        probability = self._probability(score, name)
        made: dict[str, Tensor] = {}
        if "probability" in parts:
            made["probability"] = probability
        if "confidence" in parts:
            made["confidence"] = (probability * 255).round_().to(torch.uint8)
        if threshold is not None:
            made["mask"] = probability > threshold
        return made

    @torch.inference_mode()
    def score_maps(self, image_rgb: NDArray[np.uint8], scores: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Give several scores of an image from one pass of the network, each as :meth:`infer` would alone.

        Args:
            image_rgb: (H, W, 3) uint8.
            scores: names out of ``config.ALL_SCORES``, at least one, each once.

        Returns:
            for each name, in order, (H, W) float32 in [0, 1], always finite.

        Raises:
            ConfigError: if a name is unknown or given twice, or the head is asked for and the model has none.
            ImageError, InferenceError: as :meth:`infer`.
        """
        check_scores(scores, self._scorer)
        with self._path.on_device():
            ((plan, stitched),) = self._path.stitched([image_rgb], scores, self._config)
            maps = windows.to_image_size(stitched, plan)
            results = [self._probability(score, name) for name, score in zip(scores, maps, strict=True)]
            arrays = self._path.download(results, list(maps), [image_rgb] * len(maps))()
            return dict(zip(scores, arrays, strict=True))

    @torch.inference_mode()
    def explain(self, image_rgb: NDArray[np.uint8]) -> Explanation:
        """Give what the frozen network takes an image for; a pass of its own, so that scores take no longer for it.

        Raises:
            ConfigError: if the model gives no semantic classes.
            ImageError, InferenceError: as :meth:`infer`.
        """
        check_semantic(self._scorer)
        with self._path.on_device():
            ((plan, semantic),) = self._path.stitched([image_rgb], (SEMANTIC,), self._config)
            seen = windows.to_image_size(statistics(semantic[None])[0].permute(2, 0, 1), plan)
            results = [windows.classes_at_image_size(semantic, plan), seen]
            return Explanation(*self._path.download(results, [seen[0]], [image_rgb])())

    @torch.inference_mode()
    def logits(self, image_rgb: NDArray[np.uint8], score: str = "head") -> NDArray[np.float32]:
        """Give a score of an image before it becomes a probability, to fit a calibration on.

        Args:
            image_rgb: (H, W, 3) uint8.
            score: ``head``, for its logits, or a baseline.

        Returns:
            (H, W) float32, always finite.

        Raises:
            ConfigError: if the model does not have the score.
            ImageError, InferenceError: as :meth:`infer`.
        """
        check_scores((score,), self._scorer)
        return self._stitched_maps(image_rgb, (score,))[0]

    @torch.inference_mode()
    def distances(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give how far each pixel is from ordinary driving, before it becomes a score, to fit a reading on.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (2, H, W) float32, always finite: distances, and the head's logits; (1, H, W) if the model has no head.

        Raises:
            ConfigError: if it has not learnt ordinary driving.
            ImageError, InferenceError: as :meth:`infer`.
        """
        check_distance(self._scorer)
        names = (DISTANCE, "head") if "head" in self._scorer.scores else (DISTANCE,)
        return np.stack(self._stitched_maps(image_rgb, names))

    @torch.inference_mode()
    def patch_features(self, image_rgb: NDArray[np.uint8]) -> Tensor:
        """Give the network's features of all patches of an image's windows: (N, C) float32 on the device.

        Raises:
            ConfigError: if it runs an exported file, which gives none.
            ImageError: as :meth:`infer`.
        """
        if not isinstance(self._scorer, TorchWindowScorer):
            raise ConfigError("an exported file gives no features: use backend torch")
        with self._path.on_device():
            _, crops = self._path.cut([image_rgb], self._config)
            batches = torch.split(crops, self._path.batch_windows_of(self._config))
            features = torch.cat([self._scorer.predict(batch).features.float() for batch in batches])
            return features.flatten(2).mT.flatten(0, 1)

    def _stitched_maps(self, image_rgb: NDArray[np.uint8], names: Sequence[str]) -> list[NDArray[np.float32]]:
        with self._path.on_device():
            ((plan, stitched),) = self._path.stitched([image_rgb], names, self._config)
            maps = list(windows.to_image_size(stitched, plan))
            return self._path.download(maps, maps, [image_rgb] * len(maps))()

    def _names(self, config: EngineConfig, semantic: bool) -> tuple[str, ...]:
        """What the scorer computes: the score, the distance if drives are watched, the semantic map if wanted."""
        watched = config.drift_alpha > 0 and self.normality is not None and self.normality.drift is not None
        return (config.score, *((DISTANCE,) if watched else ()), *((SEMANTIC,) if semantic else ()))

    def self_test(self) -> str:
        """Answer the model's probe and compare with the stored answer; returns the outcome for people.

        This is done when a file is loaded, and not for a model in memory, which may have changed on purpose.

        Raises:
            InferenceError: if they differ; it names what does.
        """
        return check_known_answer(self._scorer, self._config.score, self.averaged_score)

    @torch.inference_mode()
    def averaged_score(self, image_rgb: NDArray[np.uint8], name: str | None = None) -> NDArray[np.float64]:
        """Average a score of a single window, before it becomes a probability, to compare models.

        Args:
            image_rgb: (h, w, 3) uint8, in the proportions of the window.
            name: of the score; None for the configured one.

        Returns:
            (rows, columns) float64, the averages over the cells of :data:`~eomt_ext_core.scoring.probe.GRID_HW`; they
            may be infinite or NaN.
        """
        one_window = replace(self._config, windows=WindowConfig())
        with self._path.on_device():
            ((_, stitched),) = self._path.stitched([image_rgb], (name or self._config.score,), one_window)
            averages: NDArray[np.float64] = F.adaptive_avg_pool2d(stitched[:1], GRID_HW)[0].double().cpu().numpy()
            return averages

    def _probability(self, score: Tensor, name: str) -> Tensor:
        if name in self.calibrations:
            return self.calibrations[name].probability(score)
        if name in BASELINES:
            return baseline_probability(score, name, self._scorer.num_classes)
        return score.sigmoid()
