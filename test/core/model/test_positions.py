"""Position embeddings at windows of the published sizes; the networks are narrow, the grids are the real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from eomt_ext_core import CheckpointError, load_model, save_model
from eomt_ext_core.cli import app
from eomt_ext_core.model.positions import POSITIONS, check_square, resample_positions

Make = Callable[..., Any]
Grid = tuple[int, int]
HEADS = {"backbone_overrides": {"num_heads": 2}}
# Windows with as many patches as the square one that the networks are published for.
SAME_COUNT = [((640, 640), (512, 800)), ((640, 640), (320, 1280)), ((1024, 1024), (512, 2048))]


def grid(window_hw: Grid) -> Grid:
    return window_hw[0] // 16, window_hw[1] // 16


def ramps(grid_hw: Grid, channels: int = 32) -> Tensor:
    """(1, N, C): how far down and how far right a patch's middle lies, from 0 to 1, and waves of it."""
    down, right = torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in grid_hw), indexing="ij")
    waves = [torch.sin((number + 1) * (down + 0.7 * right)) for number in range(channels - 2)]
    return torch.stack((down, right, *waves), dim=-1).reshape(1, -1, channels)


def interpolated(positions: Tensor, old_hw: Grid, new_hw: Grid) -> Tensor:
    image = positions.double().reshape(1, *old_hw, -1).permute(0, 3, 1, 2)
    return F.interpolate(image, new_hw, mode="bicubic", antialias=True).permute(0, 2, 3, 1).flatten(1, 2)


@pytest.fixture
def official(tiny_model: Make, official_state: Make, tmp_path: Path) -> Make:
    """An official file of a network trained at a window, with the positions of that window."""

    def make(window_hw: Grid, positions: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Path:
        model = tiny_model(crop_hw=window_hw, backbone_overrides={"embed_dim": 32, "depth": 2, "num_heads": 2})
        state = official_state(model)
        state[f"network.{POSITIONS}"] = ramps(grid(window_hw)) if positions is None else positions
        path = tmp_path / "pytorch_model.bin"
        torch.save({key: value.to(dtype) for key, value in state.items()}, path)
        return path

    return make


@pytest.fixture
def transformers_folder(tmp_path: Path, randomise: Make) -> Make:
    transformers = pytest.importorskip("transformers")

    def make(window_hw: Grid) -> Path:
        settings = transformers.EomtConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=window_hw[0], num_blocks=2,
            num_queries=6, num_labels=5,
        )  # fmt: skip
        model = transformers.EomtForUniversalSegmentation(settings)
        randomise(model, 0)
        model.attn_mask_probs.zero_()
        model.embeddings.position_embeddings.weight.data = ramps(grid(window_hw))[0]
        model.save_pretrained(tmp_path / "folder")
        return tmp_path / "folder"

    return make


@pytest.mark.parametrize("layout", ["official", "transformers_folder"])
@pytest.mark.parametrize(("trained", "window"), SAME_COUNT)
def test_window_of_same_area_and_other_shape_is_resampled(
    request: pytest.FixtureRequest, layout: str, trained: Grid, window: Grid
) -> None:
    path = request.getfixturevalue(layout)(trained)
    model = load_model(path, {**(HEADS if layout == "official" else {}), "crop_hw": window})
    found = model.network.encoder.backbone.pos_embed
    old_hw, new_hw = grid(trained), grid(window)
    assert torch.equal(found, resample_abs_pos_embed(ramps(old_hw), list(new_hw), list(old_hw), num_prefix_tokens=0))
    torch.testing.assert_close(found.double(), interpolated(ramps(old_hw), old_hw, new_hw), atol=1e-5, rtol=0)
    inner = (slice(None), slice(3, -3), slice(3, -3), slice(0, 2))  # bicubic interpolation keeps a ramp, but at borders
    ours, drawn = (values.reshape(1, *new_hw, -1)[inner] for values in (found, ramps(new_hw)))
    torch.testing.assert_close(ours, drawn, atol=5e-4, rtol=0)
    assert model.config.crop_hw == window
    assert model.config.trained_crop_hw is None


def test_non_square_window_must_be_given(official: Make) -> None:
    path = official((512, 2048))  # 4,096 patches, as 1024² has
    with pytest.raises(CheckpointError, match=r"bin: .*4096 vectors look like one of 2048×512 .* give trained_crop_hw"):
        load_model(path, HEADS)
    known = {**HEADS, "trained_crop_hw": (512, 2048)}
    model = load_model(path, known)
    assert model.config.crop_hw == (512, 2048)
    assert torch.equal(model.network.encoder.backbone.pos_embed, ramps((32, 128)))
    square = load_model(path, {**known, "crop_hw": (1024, 1024)}).network.encoder.backbone.pos_embed
    torch.testing.assert_close(square.double(), interpolated(ramps((32, 128)), (32, 128), (64, 64)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [(640, 640), (512, 800), (320, 1280), (800, 512), (400, 1024)])
def test_the_window_is_told_by_neighbours_that_are_alike(window: Grid) -> None:
    noise = 0.02 * torch.randn(1, 1600, 32, generator=torch.Generator().manual_seed(1))
    positions = ramps(grid(window)) + noise
    if window == (640, 640):
        check_square(positions, 16)
        return
    with pytest.raises(CheckpointError, match=f"look like one of {window[1]}×{window[0]} pixels"):
        check_square(positions, 16)


def test_positions_without_any_order_are_taken_for_square() -> None:
    for seed in range(5):
        check_square(torch.randn(1, 36, 8, generator=torch.Generator().manual_seed(seed)), 16)
    check_square(torch.zeros(1, 1600, 8), 16)
    check_square(torch.ones(1, 1, 8), 16)


def test_trained_positions_that_are_not_square_are_noticed(tmp_path: Path) -> None:
    demo = load_model("demo")  # 18 × 32 patches, which are 24 × 24
    torch.save({**demo.state_dict(), "network.attn_mask_probs": torch.zeros(3)}, tmp_path / "demo.bin")
    known: dict[str, Any] = {"backbone_overrides": {"num_heads": 3}}
    with pytest.raises(CheckpointError, match="576 vectors look like one of 512×288 pixels"):
        load_model(tmp_path / "demo.bin", known)
    loaded = load_model(tmp_path / "demo.bin", {**known, "trained_crop_hw": (288, 512)})
    assert loaded.config.crop_hw == demo.config.crop_hw
    assert torch.equal(loaded.network.encoder.backbone.pos_embed, demo.network.encoder.backbone.pos_embed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_positions_are_resampled_in_float32(official: Make, dtype: torch.dtype) -> None:
    path = official((640, 640), dtype=dtype)
    found = load_model(path, {**HEADS, "crop_hw": (512, 800)}).network.encoder.backbone.pos_embed
    stored = ramps((40, 40)).to(dtype).float()
    torch.testing.assert_close(found.double(), interpolated(stored, (40, 40), (32, 50)), atol=1e-5, rtol=0)


def test_the_same_grid_keeps_every_bit() -> None:
    positions = ramps((4, 6))
    assert torch.equal(resample_positions(positions, (4, 6), (4, 6)), positions)


def test_resampled_positions_survive_saving(official: Make, tmp_path: Path) -> None:
    model = load_model(official((640, 640)), {**HEADS, "crop_hw": (512, 800)})
    save_model(model, tmp_path / "wide.safetensors")
    again = load_model(tmp_path / "wide.safetensors")
    assert again.config == model.config
    assert torch.equal(again.network.encoder.backbone.pos_embed, model.network.encoder.backbone.pos_embed)
    back = load_model(tmp_path / "wide.safetensors", {"crop_hw": (640, 640)}).network.encoder.backbone.pos_embed
    torch.testing.assert_close(back[..., :2], ramps((40, 40))[..., :2], atol=0.02, rtol=0)
    with pytest.raises(CheckpointError, match=r"trained_crop_hw is .*512, 800.* in the file, but .*640, 640"):
        load_model(tmp_path / "wide.safetensors", {"trained_crop_hw": (640, 640)})


def test_convert_takes_the_window_that_a_file_was_trained_at(official: Make, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    command = ["convert", str(official((512, 2048))), str(target), "--num-heads", "2"]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, CheckpointError)
    assert not target.exists()
    done = CliRunner().invoke(app, [*command, "--trained-crop", "512", "2048", "--crop", "640", "640"])
    assert done.exit_code == 0, done.output
    found = load_model(target).network.encoder.backbone.pos_embed.detach().numpy()
    expected = interpolated(ramps((32, 128)), (32, 128), (40, 40)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trained_crop_hw": (640, 320)}, "window of 320×640 pixels has 800 patches of 16, but .* holds 1600"),
        ({"trained_crop_hw": (640, 650)}, "trained_crop must be a positive multiple of the patch size 16, got 650"),
        ({"trained_crop_hw": 640}, "trained_crop_hw must be two whole numbers"),
    ],
)
def test_a_trained_window_that_cannot_be_is_refused(official: Make, given: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(official((640, 640)), {**HEADS, **given})
