"""Samples of training data sets: an image of the model's crop size, and the labels of its pixels."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, VOID

__all__ = ["ANOMALOUS", "NORMAL", "OUTLIER", "VOID", "AnomalyDataset", "Sample", "SemanticDataset", "SemanticSample"]

OUTLIER = 254  # in a map of class ids: a thing that is of none of the classes


class Sample(NamedTuple):
    """An image with anomaly labels.

    Attributes:
        image: (3, h, w) uint8 RGB, of the model's crop size.
        labels: (h, w) integers: 0 known, 1 anomaly, 255 void; a data set may give
            ``{"masks": (N, h, w) bool, "labels": (N,) of these}`` instead, see
            :func:`~eomt_ext_training.targets.label_map`. In a batch it is always the former, uint8.
        key: names the sample within its data set, for messages.
    """

    image: Tensor
    labels: Any  # a tensor or a mapping of a data set; batches, of the same type, hold tensors alone
    key: str


class SemanticSample(NamedTuple):
    """An image with the semantic class of each pixel.

    Attributes:
        image: (3, h, w) uint8 RGB, of the model's crop size.
        semantic: (h, w) uint8 class ids, ``OUTLIER`` a thing of none of the classes, 255 void.
    """

    image: Tensor
    semantic: Tensor


class AnomalyDataset(Protocol):
    """A map-style data set of :class:`Sample`.

    Item ``index`` is the same at each call: what is random in it follows from a seed and the index alone, so that the
    outputs of a frozen network can be kept for it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def fingerprint(self) -> str:
        """Return a short text that changes whenever any item may have changed.

        It covers the settings, and of every file its path, size and modification time, or its content; of a generator,
        its source code (see :func:`~eomt_ext_core.fingerprint.fingerprint_of`).
        """
        ...


class SemanticDataset(Protocol):
    """A map-style data set of :class:`SemanticSample`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SemanticSample: ...
