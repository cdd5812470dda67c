"""Upscaling of patch tokens to the map of the masks."""

from __future__ import annotations

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from eomt_ext_core.config import ModelConfig


class UpscaleBlock(nn.Module):
    """Double the resolution of a feature map: transposed and depthwise convolution (EoMT's ``ScaleBlock``)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.norm = LayerNorm2d(dim, eps=eps)

    def forward(self, features: Tensor) -> Tensor:
        """Upscale (B, C, h, w) to (B, C, 2h, 2w)."""
        upscaled: Tensor = self.norm(self.conv2(self.act(self.conv1(features))))
        return upscaled


def usual_blocks(patch_size: int) -> int:
    """Return how many blocks official EoMT has, to upscale the patch map to about a quarter of the window."""
    return max(1, patch_size.bit_length() - 3)


def make_upscale(dim: int, config: ModelConfig) -> nn.Sequential:
    """Make the blocks that upscale the patch map."""
    count = config.upscale_blocks or usual_blocks(config.patch_size)
    return nn.Sequential(*(UpscaleBlock(dim, config.upscale_eps) for _ in range(count)))


def fold_tokens(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Arrange patch tokens (B, h·w, C) as a map (B, C, h, w)."""
    return torch.unflatten(tokens.transpose(1, 2), 2, grid_hw)
