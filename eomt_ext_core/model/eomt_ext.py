"""EoMT-EXT: a frozen EoMT and the pixel-wise anomaly head on top of it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from eomt_ext_core.config import HeadConfig, ModelConfig
from eomt_ext_core.model.eomt import EoMT, Prediction
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics


class EoMTExt(nn.Module):
    """A frozen EoMT with an anomaly head, or without one: then only the baseline scores are available.

    The EoMT has no gradients and always stays in eval mode.

    Args:
        config: architecture of the EoMT.
        head_config: shape of the head, or None.

    Attributes:
        info: metadata of a checkpoint (class names, data, calibration …); JSON values.
    """

    def __init__(self, config: ModelConfig, head_config: HeadConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.info: dict[str, Any] = {}
        self.network = EoMT(config)
        self.network.requires_grad_(False).eval()
        self.anomaly_head: PixelAnomalyHead | None = None
        if head_config is not None:
            self.anomaly_head = PixelAnomalyHead(self.network.encoder.embed_dim, head_config)

    def train(self, mode: bool = True) -> EoMTExt:
        """Put the head into training mode, but never the frozen network."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor) -> Prediction:
        """Run the frozen network on windows.

        Args:
            images: (B, 3, H, W) in [0, 1], of the configured window size.

        Returns:
            a :class:`~eomt_ext_core.model.eomt.Prediction`.
        """
        return cast(Prediction, self.network(images))

    def compute_anomaly_score(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel literally like the reference; all faster forms are tested against this one.

        Args:
            mask_logits: (B, Q, h, w).
            class_logits: (B, Q, num_classes + 1).
            img_size: (H, W) of the result.
            features: (B, C, h', w').

        Returns:
            (B, H, W, 1) anomaly logits.

        Raises:
            RuntimeError: if the model has no anomaly head.
        """
        if self.anomaly_head is None:
            raise RuntimeError("this model has no anomaly head: load one, or use a baseline score such as 'rba'")
        semantic = semantic_map(mask_logits, class_logits, img_size)
        return cast(Tensor, self.anomaly_head(statistics(semantic), features))
