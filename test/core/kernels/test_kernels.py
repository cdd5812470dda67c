"""Kernels in Triton's interpreter, beside the same by torch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("triton")
from eomt_ext_core.kernels.class_map import best_classes, class_map
from eomt_ext_core.kernels.embedding import MIDDLE, embed
from eomt_ext_core.kernels.norm import add_norm
from eomt_ext_core.kernels.upscale import mix_norm

Run = Callable[..., Any]
BF16 = 1 / 128  # the interpreter truncates where a GPU rounds to the nearest


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    ("source_hw", "size_hw"), [((20, 31), (45, 70)), ((45, 70), (20, 31)), ((9, 12), (9, 12)), ((1, 1), (5, 7))]
)
def test_class_map_is_the_best_of_the_resized_map(
    source_hw: tuple[int, int], size_hw: tuple[int, int], interpreted: Run
) -> None:
    semantic = normal(5, source_hw[0] + 3, source_hw[1] + 2)[1:, : source_hw[0], : source_hw[1]]
    resized = F.interpolate(semantic[None], size_hw, mode="bilinear", align_corners=False)[0]
    classes = interpreted(class_map, semantic, size_hw)
    assert classes.dtype == torch.uint8
    value = resized.gather(0, classes[None].long())[0]
    assert (resized.amax(dim=0) - value).max() <= 1e-5  # rounding may decide between neighbours that are this close
    assert (classes == resized.argmax(dim=0)).float().mean() > 0.99


def test_class_map_takes_the_first_of_equals(interpreted: Run) -> None:
    semantic = torch.tensor([-2.0, 3.0, 3.0, 1.0])[:, None, None].expand(4, 6, 8).contiguous()
    assert (interpreted(class_map, semantic, (11, 13)) == 1).all()
    assert (interpreted(class_map, semantic - 9, (11, 13)) == 1).all()


def test_an_image_of_another_size_compiles_no_class_map() -> None:
    """No size is a constant, and none is specialised, as Triton does with 1 and with multiples of 16."""
    constant = {each.name for each in best_classes.params if each.is_constexpr}
    specialised = {each.name for each in best_classes.params if not each.do_not_specialize}
    assert constant == {"CLASSES", "BLOCK"}
    # a new tensor always begins at a multiple of 16, and Triton specialises no float
    assert specialised - constant == {"classes", "y_scale", "x_scale"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_add_norm_is_a_sum_and_a_layer_norm(dtype: torch.dtype, interpreted: Run) -> None:
    stream, branch, norm = 3 * normal(2, 5, 48) + 40, normal(2, 5, 48, seed=1, dtype=dtype), nn.LayerNorm(48, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.requires_grad_(False)
    for added in (branch, None):
        summed, normalised = interpreted(add_norm, stream, added, norm, dtype)
        expected = stream if added is None else stream + added
        assert torch.equal(summed, expected)
        exact = norm.double()(expected.double())
        assert normalised.dtype == dtype
        assert (normalised - exact).abs().max() <= (1e-5 if dtype == torch.float32 else exact.abs().max() * BF16)
        norm.float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mix_norm_places_convolves_and_normalises(dtype: torch.dtype, interpreted: Run) -> None:
    batch, height, width, channels = 2, 3, 5, 24
    successors = normal(batch, height, width, 4 * channels, dtype=dtype)
    taps, weight, bias = normal(9, channels, seed=1), normal(channels, seed=2), normal(channels, seed=3)
    result = interpreted(mix_norm, successors, taps, weight, bias, 1e-6)
    placed = torch.zeros(batch, channels, 2 * height, 2 * width)
    for index in range(4):
        part = successors[..., index * channels : (index + 1) * channels].float()
        placed[:, :, index // 2 :: 2, index % 2 :: 2] = part.permute(0, 3, 1, 2)
    mixed = F.conv2d(placed, taps.t().reshape(channels, 1, 3, 3), padding=1, groups=channels).permute(0, 2, 3, 1)
    expected = F.layer_norm(mixed, (channels,), weight, bias, 1e-6)
    assert result.dtype == dtype
    assert (result - expected).abs().max() <= (2e-5 if dtype == torch.float32 else expected.abs().max() * BF16)


@pytest.mark.parametrize("patch", [16, 14])
def test_embedding_of_bytes_is_a_convolution_of_floats(patch: int, interpreted: Run) -> None:
    (rows, columns), channels, prefix = (3, 5), 40, 2
    windows = torch.randint(0, 256, (2, 3, rows * patch, columns * patch), dtype=torch.uint8)
    weight, still = 0.05 * normal(channels, 3, patch, patch), normal(prefix + rows * columns, channels, seed=1)
    by_pixel = weight.flatten(1).t().contiguous()
    upper = by_pixel.bfloat16()
    lower = (by_pixel - upper.float()).bfloat16()
    tokens = interpreted(embed, windows, upper, lower, still, prefix, (rows, columns))
    exact = F.conv2d(windows.double() - MIDDLE, weight.double(), stride=patch).flatten(2).mT
    assert torch.equal(tokens[:, :prefix], still[:prefix].expand(2, -1, -1))
    difference = (tokens[:, prefix:].double() - (exact + still[prefix:])).abs().max()
    assert difference <= 1e-5 * exact.abs().max()
