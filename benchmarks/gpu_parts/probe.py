"""The pieces of a frame one by one, predicted for an H100 beside measured.

What is off by more than 1.5 is to be understood before anything is built on it. Sizes are those of two windows of
ViT-B at 640×640: 1,605 tokens with class and registers, 12 heads of 64 channels, bf16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_parts.setting import Setting
from benchmarks.gpu_parts.timing import device_us, event_us

_SUSPICIOUS = 1.5


class Piece(NamedTuple):
    """A piece of work with the least and most microseconds predicted for it."""

    name: str
    predicted_us: tuple[float, float]
    run: Callable[[], object]
    in_graph: bool = True


@torch.no_grad()
def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    for piece in _pieces(setting):
        time = device_us if piece.in_graph else event_us
        try:
            measured = time(piece.run, setting.torch_device)
        except RuntimeError as error:  # a backend of attention that this GPU or build lacks
            yield {piece.name: {"predicted_us": piece.predicted_us, "error": str(error).partition("\n")[0]}}
            continue
        least, most = piece.predicted_us
        off = max(measured / most, least / measured)
        found = {"predicted_us": piece.predicted_us, "measured_us": measured, "suspicious": off > _SUSPICIOUS}
        yield {piece.name: found}


def _pieces(setting: Setting) -> Iterator[Piece]:
    device, small = setting.torch_device, setting.quick
    windows, tokens, heads, channels, side = (1, 20, 2, 64, 8) if small else (2, 1605, 12, 768, 160)
    large = 64 if small else 8192
    bf16 = {"device": device, "dtype": torch.bfloat16}
    left, right = (torch.randn(large, large, **bf16) for _ in range(2))
    yield Piece("product 8192³", (1300, 1500), lambda: left @ right)

    qkv = torch.randn(3, windows, heads, tokens, channels // heads, **bf16)
    for backend, predicted in ((SDPBackend.CUDNN_ATTENTION, 45), (SDPBackend.FLASH_ATTENTION, 65)):
        if setting.on_gpu or backend is SDPBackend.FLASH_ATTENTION:
            yield Piece(f"attention, {backend.name}", (predicted, predicted), lambda: _attend(qkv, backend))  # noqa: B023

    rows = torch.randn(windows * tokens, channels, **bf16)
    wide = torch.randn(windows * tokens, 4 * channels, **bf16)
    weight = torch.randn(4 * channels, channels, **bf16)
    bias = torch.zeros(4 * channels, **bf16)
    narrow = weight.t().contiguous()
    yield Piece("qkv", (20, 20), lambda: F.linear(rows, weight[: 3 * channels], bias[: 3 * channels]))
    yield Piece("proj", (9, 9), lambda: F.linear(rows, weight[:channels], bias[:channels]))
    yield Piece("fc1", (24, 24), lambda: F.linear(rows, weight, bias))
    yield Piece("fc2", (28, 28), lambda: F.linear(wide, narrow, bias[:channels]))
    yield Piece("fc1 and GELU", (35, 35), lambda: F.gelu(F.linear(rows, weight, bias)))
    epilogue = torch._addmm_activation
    yield Piece("fc1 with GELU in its epilogue", (26, 26), lambda: epilogue(bias, rows, weight.t(), use_gelu=True))

    stream = torch.randn(windows, tokens, channels, device=device)
    norm = torch.ones(channels, device=device)
    yield Piece("LayerNorm and cast", (10, 10), lambda: F.layer_norm(stream, (channels,), norm, norm).bfloat16())
    yield Piece("mixed add", (5, 10), lambda: stream + rows.view_as(stream))

    upscaled = torch.randn(windows, channels, side, side, **bf16).contiguous(memory_format=torch.channels_last)
    depthwise = torch.randn(channels, 1, 3, 3, **bf16)
    yield Piece("depthwise 3×3 at 160²", (58, 150), lambda: F.conv2d(upscaled, depthwise, padding=1, groups=channels))
    pixels = torch.rand(windows, 3, 4 * side, 4 * side, device=device)
    patches = torch.rand(channels, 3, 16, 16, device=device)
    yield Piece("patch embedding, TF32", (30, 100), lambda: F.conv2d(pixels, patches, stride=16))

    pinned = {"pin_memory": setting.on_gpu}
    image = torch.empty((4 * side, 4 * side, 3) if small else (1080, 1920, 3), dtype=torch.uint8, **pinned)
    yield Piece("upload 6.2 MB", (110, 140), lambda: image.to(device, non_blocking=True), in_graph=False)
    result = torch.empty(10_368 if small else 10_368_000, dtype=torch.uint8, device=device)
    target = torch.empty(result.shape, dtype=torch.uint8, **pinned)
    yield Piece("download 10.4 MB", (180, 220), lambda: target.copy_(result, non_blocking=True), in_graph=False)


def _attend(qkv: torch.Tensor, backend: SDPBackend) -> torch.Tensor:
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(*qkv)
