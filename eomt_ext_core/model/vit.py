"""The backbone: a timm DINOv2 vision transformer with EoMT's patch and window size."""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from eomt_ext_core.config import ModelConfig
from eomt_ext_core.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ViTEncoder(nn.Module):
    """A DINOv2 ViT with its input normalisation.

    Raises:
        ConfigError: if timm refuses the overrides.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        try:
            self.backbone = cast(
                Any,
                timm.create_model(
                    config.backbone,
                    pretrained=False,
                    img_size=config.crop_hw,
                    patch_size=config.patch_size,
                    num_classes=0,
                    **config.backbone_overrides,
                ),
            )
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"backbone_overrides must be sizes that {config.backbone} can have, got "
                f"{dict(config.backbone_overrides)}: {error}"
            ) from error
        depth = len(self.backbone.blocks)
        if config.num_blocks > depth:
            raise ConfigError(
                f"num_blocks must be at most the depth {depth} of {config.backbone}, got {config.num_blocks}"
            )
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    @property
    def embed_dim(self) -> int:
        """Number of channels of a token."""
        return int(self.backbone.embed_dim)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of class and register tokens before the patch tokens."""
        return int(self.backbone.num_prefix_tokens)

    def embed(self, images: Tensor) -> Tensor:
        """Convert images to tokens with positions.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, prefix + patches, C).
        """
        normalised = (images - self.pixel_mean) / self.pixel_std
        tokens: Tensor = self.backbone.norm_pre(self.backbone._pos_embed(self.backbone.patch_embed(normalised)))
        return tokens


def run_block(block: Any, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Run a timm ViT block, with its attention restricted if there is a mask.

    Args:
        block: a ``timm.models.vision_transformer.Block``.
        tokens: (B, T, C).
        attention_mask: (B, T, T) bool, true if the row's token may attend to the column's; or None.

    Returns:
        (B, T, C).
    """
    if attention_mask is None:
        plain: Tensor = block(tokens)
        return plain
    attended = _masked_attention(block.attn, block.norm1(tokens), attention_mask)
    tokens = tokens + block.drop_path1(block.ls1(attended))
    restricted: Tensor = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return restricted


def _masked_attention(attention: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    batch, length, channels = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, length, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query), attention.k_norm(key)
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
    projected: Tensor = attention.proj(mixed.transpose(1, 2).reshape(batch, length, channels))
    return projected
