"""Checks before any work is done: of images, their windows, and what a scorer is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from eomt_ext_core import windows
from eomt_ext_core.backends.window_scorer import DISTANCE, SEMANTIC, WindowScorer
from eomt_ext_core.config import ALL_SCORES, NORMALITY_SCORES, EngineConfig
from eomt_ext_core.errors import ConfigError, ImageError

_MOST_CLASSES = 256  # ids are uint8


def check_image(image: object) -> None:
    """Raise an :class:`ImageError` unless this is a (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image must be a numpy array, got {type(image).__name__}", reason="shape")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"an image must be (H, W, 3) uint8, got {image.shape} {image.dtype}", reason="shape")


def check_window_count(image_hw: tuple[int, int], crop_hw: tuple[int, int], config: EngineConfig) -> None:
    """Raise an :class:`ImageError` if an image needs too many windows."""
    count = windows.count(image_hw, crop_hw, config.windows)
    if count > config.max_windows:
        height, width = image_hw
        raise ImageError(
            f"an image may need at most max_windows = {config.max_windows} windows, a {width}×{height} one needs "
            f"{count}: crop it, or choose another window mode or scale",
            reason="dimensions",
        )


def check_change(before: EngineConfig, after: EngineConfig) -> None:
    """Raise a :class:`ConfigError` if an option differs that is not live."""
    fixed = list(_fixed_changes(before, after))
    if fixed:
        raise ConfigError(f"{', '.join(fixed)} cannot change in a running engine: make a new one")


def _fixed_changes(before: Any, after: Any) -> Iterator[str]:
    for item in fields(before):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if is_dataclass(old):
            yield from _fixed_changes(old, new)
        elif old != new and not item.metadata["live"]:
            yield item.name


def check_scores(scores: Sequence[str], scorer: WindowScorer) -> None:
    """Raise a :class:`ConfigError` if a score is unknown, given twice, or not one of the scorer's."""
    if not scores or len(set(scores)) != len(scores) or not set(scores) <= set(ALL_SCORES):
        raise ConfigError(
            f"scores must be different names out of {', '.join(ALL_SCORES)}, got {', '.join(scores) or 'none'}"
        )
    offered = [score for score in scorer.scores if score not in (SEMANTIC, DISTANCE)]
    missing = [score for score in scores if score not in offered]
    if missing == ["head"]:
        raise ConfigError(
            f"score 'head' needs a model with an anomaly head, this one has none: choose from {', '.join(offered)}"
        )
    if missing and missing[0] in NORMALITY_SCORES:
        raise ConfigError(
            f"score {missing[0]!r} needs a file of `eomt-ext learn-normal` that has it, and backend torch: give the "
            f"file as normality, or choose from {', '.join(offered)}"
        )
    if missing:
        raise ConfigError(f"score {missing[0]!r} is not in the exported file: choose from {', '.join(offered)}")


def check_distance(scorer: WindowScorer) -> None:
    """Raise a :class:`ConfigError` if the scorer has not learnt ordinary driving."""
    if DISTANCE not in scorer.scores:
        raise ConfigError("ordinary driving is not known: give a file of `eomt-ext learn-normal` as normality")


def has_semantic(scorer: WindowScorer) -> bool:
    """Whether the scorer gives semantic classes, and no more of them than fit into uint8 ids."""
    return SEMANTIC in scorer.scores and scorer.num_classes <= _MOST_CLASSES


def check_semantic(scorer: WindowScorer) -> None:
    """Raise a :class:`ConfigError` if the scorer gives no semantic classes, or too many."""
    if SEMANTIC not in scorer.scores:
        raise ConfigError("the semantic classes are not in the exported file: export it with them")
    if scorer.num_classes > _MOST_CLASSES:
        raise ConfigError(f"class ids are uint8: at most {_MOST_CLASSES} classes, got {scorer.num_classes}")
