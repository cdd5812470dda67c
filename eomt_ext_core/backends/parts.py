"""Parts of the network that can be computed in several ways, of which the fastest on the device in use is chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.backends.cudnn import cudnn_settings
from eomt_ext_core.kernels.choice import fastest
from eomt_ext_core.model.upscale import UpscaleBlock
from eomt_ext_core.model.vit import ViTEncoder

PLAIN = "torch"
BOUND = 1 / 64  # of the largest result: two results that are rounded differently to bfloat16, twice


class Part(nn.Module):
    """A module whose result ``by_<way>`` computes, for each of its ``ways``, of which ``torch`` runs everywhere.

    Attributes:
        ways: by which it can be computed.
        way: by which it is.
    """

    ways: tuple[str, ...] = (PLAIN,)
    way: str = PLAIN

    def forward(self, *inputs: Tensor) -> Any:
        """Compute the result."""
        return getattr(self, f"by_{self.way}")(*inputs)


@torch.inference_mode()
def choose_ways(network: nn.Module, run: Callable[[], object], device: torch.device) -> dict[str, str]:
    """Choose how the parts of a network are computed, by timing them on what they get in a run.

    Parts of one class with inputs of the same shapes are computed in the same way; each is to have one such shape.

    Args:
        network: with :class:`Part` modules.
        run: runs the network.
        device: where it is.

    Returns:
        the ways by the name of the class.
    """
    same: dict[Any, list[tuple[Part, tuple[Tensor, ...]]]] = defaultdict(list)

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        key = type(module), tuple(tensor.shape for tensor in inputs)
        same[key].append((cast(Part, module), () if same[key] else inputs))

    parts = [module for module in network.modules() if isinstance(module, Part)]
    hooks = [part.register_forward_pre_hook(record) for part in parts]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    chosen: dict[str, set[str]] = defaultdict(set)
    for (kind, _), found in same.items():
        part, inputs = found[0]
        ways = {way: partial(_result, getattr(part, f"by_{way}"), inputs) for way in part.ways}
        sizes = [*inputs, *part.parameters()]
        best = fastest(kind.__name__, ways, BOUND, device, ", ".join(f"{tuple(of.shape)} {of.dtype}" for of in sizes))
        chosen[kind.__name__].add(best)
        for other, _ in found:
            other.way = best
    return {name: "/".join(sorted(ways)) for name, ways in chosen.items()}


def _result(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Tensor:
    """Run a way; of several results the last is compared."""
    result = function(*inputs)
    return cast(Tensor, result[-1] if isinstance(result, tuple) else result)


class RoundedNorm(Part):
    """A normalisation that rounds its result to a type, but not the residual stream that it reads.

    With a branch it adds that to the stream first, and gives the sum too.
    """

    ways = (PLAIN, "triton")

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = norm
        self._dtype = dtype

    def by_torch(self, tokens: Tensor, branch: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Normalise tokens of any shape."""
        summed = tokens if branch is None else tokens + branch
        normalised: Tensor = self.norm(summed).to(self._dtype)
        return normalised if branch is None else (summed, normalised)

    def by_triton(self, tokens: Tensor, branch: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """The same in one kernel."""
        from eomt_ext_core.kernels.norm import add_norm

        summed, normalised = add_norm(tokens.contiguous(), branch, self.norm, self._dtype)
        return normalised if branch is None else (summed, normalised)


class GeluLinear(Part):
    """A linear layer and a GELU; by ``epilogue`` the product applies its tanh form, which rounding to 16 bits hides."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.ways = (PLAIN, "epilogue") if hasattr(torch, "_addmm_activation") else (PLAIN,)  # it is not public
        self.weight, self.bias = linear.weight, linear.bias

    def by_torch(self, tokens: Tensor) -> Tensor:
        """Compute (…, C) to (…, D)."""
        return F.gelu(F.linear(tokens, self.weight, self.bias))

    def by_epilogue(self, tokens: Tensor) -> Tensor:
        """The same in one kernel of cuBLAS."""
        rows = tokens.reshape(-1, tokens.shape[-1])
        return torch._addmm_activation(self.bias, rows, self.weight.t(), use_gelu=True).view(*tokens.shape[:-1], -1)


class InferenceBlock(nn.Module):
    """A timm ``Block`` without layer scales and dropped paths, which adds and normalises in one step in its middle."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.ls1, self.ls2, self.drop_path1, self.drop_path2 = (nn.Identity() for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """Process (B, T, C) tokens."""
        tokens, normalised = self.norm2(tokens, self.attn(self.norm1(tokens)))
        processed: Tensor = tokens + self.mlp(normalised)
        return processed


class MixAndNorm(Part):
    """The second half of an upscaling block: successors are placed, convolved depthwise and normalised."""

    ways = (PLAIN, "triton")

    def __init__(self, block: UpscaleBlock) -> None:
        super().__init__()
        self.conv2 = block.conv2.to(memory_format=torch.channels_last)
        self.norm = block.norm
        self._taps: Tensor | None = None

    def by_torch(self, successors: Tensor) -> Tensor:
        """Compute (B, h, w, 4·C), the four successors of each position, to (B, 2h, 2w, C)."""
        batch, height, width, channels = successors.shape
        by_place = successors.view(batch, height, width, 2, 2, channels // 4)
        placed = by_place.permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)
        mixed = self.conv2(placed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.layer_norm(mixed, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)

    def by_triton(self, successors: Tensor) -> Tensor:
        """The same in one kernel."""
        from eomt_ext_core.kernels.upscale import mix_norm

        if self._taps is None:
            self._taps = self.conv2.weight.flatten(1).t().float().contiguous()
        return mix_norm(successors.contiguous(), self._taps, self.norm.weight, self.norm.bias, self.norm.eps)


class PatchEmbedding(Part):
    """The tokens of windows of bytes, (B, 3, H, W), by a DINOv2's encoder."""

    ways = (PLAIN, "triton")

    def __init__(self, encoder: ViTEncoder, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self._encoder = [encoder]  # not as a part of this one
        self._grid_hw = grid_hw
        self._weights: tuple[Tensor, Tensor, Tensor] | None = None

    def by_torch(self, windows: Tensor) -> Tensor:
        """Compute (B, prefix + patches, C) float32."""
        return self._encoder[0].embed(windows.float() / 255)[0]

    def by_triton(self, windows: Tensor) -> Tensor:
        """The same by one product of 16-bit numbers, as exact as in float32."""
        from eomt_ext_core.kernels.embedding import embed

        if self._weights is None:
            self._weights = self._make_weights(windows)
        prefix = self._encoder[0].num_prefix_tokens
        return embed(windows.contiguous(), *self._weights, prefix, self._grid_hw)

    def _make_weights(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from eomt_ext_core.kernels.embedding import MIDDLE

        encoder = self._encoder[0]
        by_level = encoder.backbone.patch_embed.proj.weight / (255 * encoder.pixel_std)
        by_pixel = by_level.flatten(1).t().contiguous()
        upper = by_pixel.bfloat16()
        with cudnn_settings(allow_tf32=False):
            still = self.by_torch(torch.full_like(windows[:1], MIDDLE))[0]
        return upper, (by_pixel - upper.float()).bfloat16(), still


class InferenceEncoder(nn.Module):
    """A :class:`~eomt_ext_core.model.vit.ViTEncoder` that takes windows of bytes too."""

    def __init__(self, encoder: ViTEncoder, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding = None if encoder.rotates else PatchEmbedding(encoder, grid_hw)

    @property
    def backbone(self) -> Any:
        """Timm's network."""
        return self.encoder.backbone

    @property
    def num_prefix_tokens(self) -> int:
        """Number of class and register tokens before the patch tokens."""
        return self.encoder.num_prefix_tokens

    def embed(self, windows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Convert windows, uint8 or float in [0, 1], to tokens and their rotation: see ``ViTEncoder``."""
        if windows.dtype != torch.uint8:
            return self.encoder.embed(windows)
        if self.embedding is None:
            return self.encoder.embed(windows.float() / 255)
        return self.embedding(windows), None
