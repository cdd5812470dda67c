"""EoMT: a plain ViT with learned queries in its last blocks, which predict a mask and a class each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.config import ModelConfig
from eomt_ext_core.model.upscale import fold_tokens, make_upscale
from eomt_ext_core.model.vit import ViTEncoder, run_block


class Prediction(NamedTuple):
    """The prediction of the network for a batch of windows.

    Attributes:
        mask_logits: (B, Q, H/4, W/4) if the patch is a power of two, and H/7, W/7 for patch 14.
        class_logits: (B, Q, num_classes + 1); the last is "no object".
        features: (B, C, H/patch, W/patch), the normalised patch tokens after the last block.
    """

    mask_logits: Tensor
    class_logits: Tensor
    features: Tensor


class EoMT(nn.Module):
    """The Encoder-only Mask Transformer (Kerssies et al., CVPR 2025; github.com/tue-mps/eomt).

    Parameters have the names of the official checkpoints on DINOv2; a DINOv3 has those of timm.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViTEncoder(config)
        dim = self.encoder.embed_dim
        self.q = nn.Embedding(config.num_queries, dim)
        self.class_head = nn.Linear(dim, config.num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.upscale = make_upscale(dim, config)

    def forward(self, images: Tensor) -> Prediction:
        """Predict masks and classes.

        Args:
            images: (B, 3, H, W) in [0, 1], of the configured window size.

        Returns:
            a :class:`Prediction`.
        """
        blocks = self.encoder.backbone.blocks
        first_with_queries = len(blocks) - self.config.num_blocks
        tokens, rotation = self.encoder.embed(images)
        for index, block in enumerate(blocks):
            if index == first_with_queries:  # not len(tokens), which would fix the batch size in an exported graph
                tokens = torch.cat((self.q.weight.expand(tokens.shape[0], -1, -1), tokens), dim=1)
            mask = None
            if self.config.masked_attention and index >= first_with_queries:
                mask = self._attention_mask(tokens)
            tokens = run_block(block, tokens, rotation, mask)
        return self._predict(tokens)

    def _predict(self, tokens: Tensor) -> Prediction:
        """Predict masks, classes and features from tokens (B, Q + prefix + patches, C)."""
        num_queries = self.config.num_queries
        tokens = self.encoder.backbone.norm(tokens)
        queries = tokens[:, :num_queries]
        features = fold_tokens(tokens[:, num_queries + self.encoder.num_prefix_tokens :], self.config.grid_hw)
        upscaled = self.upscale(features).permute(0, 2, 3, 1)  # channels last: three times as fast in bf16 on a CPU
        mask_logits = torch.einsum("bhwc,bqc->bhwq", upscaled, self.mask_head(queries)).permute(0, 3, 1, 2)
        return Prediction(mask_logits, self.class_head(queries), features)

    def _attention_mask(self, tokens: Tensor) -> Tensor:
        """Restrict each query to the patches inside its current mask: (B, T, T) bool."""
        num_queries = self.config.num_queries
        inside = F.interpolate(self._predict(tokens).mask_logits, self.config.grid_hw, mode="bilinear") > 0
        length = tokens.shape[1]
        mask = torch.ones(tokens.shape[0], length, length, dtype=torch.bool, device=tokens.device)
        mask[:, :num_queries, num_queries + self.encoder.num_prefix_tokens :] = inside.flatten(2)
        return mask
