"""The backbone: a DINOv2 or DINOv3 vision transformer of timm at the patch and window size of EoMT."""

from __future__ import annotations

from typing import Any, cast

import timm
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from torch import Tensor, nn

from eomt_ext_core.config import DINOV3_BACKBONES, ModelConfig
from eomt_ext_core.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ROPE_THETA = 100.0  # of DINOv3


class ViTEncoder(nn.Module):
    """A DINOv2 or DINOv3 ViT with its input normalisation.

    DINOv2 adds a position embedding to its patch tokens; DINOv3 rotates queries and keys of the patch tokens instead
    (RoPE, theta 100), while class, register and query tokens stay as they are.

    Raises:
        ConfigError: if timm refuses the overrides.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = _make_backbone(config)
        depth = len(self.backbone.blocks)
        if config.num_blocks > depth:
            raise ConfigError(
                f"num_blocks must be at most the depth {depth} of {config.backbone}, got {config.num_blocks}"
            )
        if self.rotates:
            _place_rotation(self.backbone, config)
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

    @property
    def rotates(self) -> bool:
        """Whether positions are rotations (DINOv3) and not an embedding (DINOv2)."""
        return getattr(self.backbone, "rope", None) is not None

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Convert images to tokens with positions.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            tokens (B, prefix + patches, C); and the sines and cosines by which each block rotates the patch tokens
            (patches, 2 · C / heads), or none.
        """
        patches = self.backbone.patch_embed((images - self.pixel_mean) / self.pixel_std)
        if self.rotates:
            tokens, rotation = self.backbone._pos_embed(patches)
            return tokens, rotation
        return self.backbone.norm_pre(self.backbone._pos_embed(patches)), None


def _make_backbone(config: ModelConfig) -> Any:
    overrides = dict(config.backbone_overrides)
    norm_eps = overrides.pop("norm_eps", None)
    if config.backbone in DINOV3_BACKBONES:
        overrides["dynamic_img_size"] = False
        if "reg_tokens" in overrides:
            overrides["num_reg_tokens"] = overrides.pop("reg_tokens")
    try:
        backbone = timm.create_model(
            config.backbone,
            pretrained=False,
            img_size=config.crop_hw,
            patch_size=config.patch_size,
            num_classes=0,
            **overrides,
        )
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"backbone_overrides must be sizes that {config.backbone} can have, got "
            f"{dict(config.backbone_overrides)}: {error}"
        ) from error
    if norm_eps is not None:
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = norm_eps
    return cast(Any, backbone)


def _place_rotation(backbone: Any, config: ModelConfig) -> None:
    """Compute the rotations, which depend only on sizes, on the CPU even if the weights are on ``meta``.

    In the last blocks the queries come before the class token, and are not rotated either.
    """
    head_dim = backbone.embed_dim // backbone.blocks[0].attn.num_heads
    if head_dim % 4:
        raise ConfigError(f"a head of {config.backbone} must have a multiple of 4 channels, got {head_dim}")
    with torch.device("cpu"):
        backbone.rope = RotaryEmbeddingDinoV3(
            head_dim, temperature=ROPE_THETA, feat_shape=list(config.grid_hw), rotate_half=True
        )
        for index, block in enumerate(backbone.blocks):
            block.attn.k_bias = torch.zeros(backbone.embed_dim)
            if index >= len(backbone.blocks) - config.num_blocks:
                block.attn.num_prefix_tokens += config.num_queries


def run_block(block: Any, tokens: Tensor, rotation: Tensor | None, attention_mask: Tensor | None) -> Tensor:
    """Run a timm ViT block, with its attention restricted if a mask is given.

    Args:
        block: a ``timm.models.vision_transformer.Block``, or, with a rotation, a ``timm.models.eva.EvaBlock``.
        tokens: (B, T, C).
        rotation: of :meth:`ViTEncoder.embed`.
        attention_mask: (B, T, T) bool, true if the row's token may attend to the column's; or None.

    Returns:
        (B, T, C).
    """
    if rotation is not None:
        rotated: Tensor = block(
            tokens, rope=rotation, attn_mask=None if attention_mask is None else attention_mask[:, None]
        )
        return rotated
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
