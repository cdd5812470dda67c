"""What the files beside the weights of a Transformers model say of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eomt_ext_core import CheckpointError, load_model
from eomt_ext_core.model.vit import IMAGENET_MEAN

transformers = pytest.importorskip("transformers")

Make = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = transformers.EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64, num_blocks=2, num_queries=7,
        id2label={0: "road", 1: "car", 2: "sky"},
    )  # fmt: skip
    transformers.EomtForUniversalSegmentation(config).save_pretrained(tmp_path)
    return tmp_path


def preprocess(folder: Path, **settings: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def test_classes_are_named(folder: Path) -> None:
    assert load_model(folder).info["class_names"] == ["road", "car", "sky"]


def test_made_up_names_are_left_out(folder: Path) -> None:
    path = folder / "config.json"
    labels = {"id2label": {str(index): f"LABEL_{index}" for index in range(3)}}
    path.write_text(json.dumps(json.loads(path.read_text()) | labels))
    assert "class_names" not in load_model(folder).info


@pytest.mark.parametrize("labels", [{"0": "road"}, {"0": "road", "1": 3, "2": "sky"}, {"0": "a", "1": "b", "7": "c"}])
def test_names_that_do_not_fit(folder: Path, labels: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": labels}))
    with pytest.raises(CheckpointError, match="class_names must be 3 texts"):
        load_model(folder)


def test_the_normalisation_of_the_preprocessor(folder: Path, image: Make) -> None:
    plain = load_model(folder)
    assert plain.network.encoder.pixel_mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    preprocess(folder, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.5], rescale_factor=0.00392156862745098)
    model = load_model(folder)
    assert model.network.encoder.pixel_mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert model.network.encoder.pixel_std.flatten().tolist() == pytest.approx([0.2, 0.25, 0.5])
    reference = transformers.EomtForUniversalSegmentation.from_pretrained(folder).eval()
    reference.attn_mask_probs.zero_()
    model = load_model(folder, {"masked_attention": False})
    images = image(1, (64, 64))
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.2, 0.25, 0.5]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = reference(pixel_values=(images - mean) / std).masks_queries_logits
        assert (model(images).mask_logits - expected).abs().max() <= 1e-4


def test_no_normalisation(folder: Path) -> None:
    preprocess(folder, do_normalize=False)
    encoder = load_model(folder).network.encoder
    assert encoder.pixel_mean.eq(0).all()
    assert encoder.pixel_std.eq(1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_rescale": False}, "rescale_factor must be 1/255"),
        ({"rescale_factor": 1.0}, "rescale_factor must be 1/255, got 1.0"),
        ({"image_mean": [0.5], "image_std": [1, 1, 1]}, "image_mean must be three numbers"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "image_std must be three numbers, got None"),
        ({"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}, "image_std must be positive"),
    ],
)
def test_a_preprocessor_that_the_network_cannot_follow(folder: Path, settings: dict[str, Any], message: str) -> None:
    preprocess(folder, **settings)
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json: {message}"):
        load_model(folder)


def test_configuration_beside_official_weights(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    model = tiny_model(crop_hw=(96, 96))
    torch.save(official_state(model), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="num-heads"):
        load_model(tmp_path)
    config = {"model_type": "eomt", "num_attention_heads": 2, "num_blocks": 2, "image_size": 96}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(tmp_path).config.backbone_overrides["num_heads"] == 2
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="num-heads"):
        load_model(tmp_path)


def test_a_patch_that_is_no_power_of_two(tmp_path: Path, image: Make) -> None:
    config = transformers.EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=84, patch_size=14, num_blocks=2,
        num_queries=7, num_labels=3, num_upscale_blocks=1,
    )  # fmt: skip
    reference = transformers.EomtForUniversalSegmentation(config).eval()
    reference.attn_mask_probs.zero_()
    reference.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    images = image(1, (84, 84))
    mean, std = (model.network.encoder.pixel_mean, model.network.encoder.pixel_std)
    with torch.no_grad():
        expected = reference(pixel_values=(images - mean) / std).masks_queries_logits
        found = model(images).mask_logits
    assert found.shape == expected.shape == (1, 7, 12, 12)
    assert (found - expected).abs().max() <= 1e-4


def test_class_token_position_without_registers(
    tiny_model: Make, official_state: Make, tmp_path: Path, image: Make
) -> None:
    overrides = {"embed_dim": 32, "depth": 3, "num_heads": 2, "reg_tokens": 0}
    model = tiny_model(crop_hw=(96, 96), backbone_overrides=overrides)
    state = official_state(model)
    name = "network.encoder.backbone.pos_embed"
    of_class = torch.full((1, 1, 32), 0.7)
    state["network.encoder.backbone.cls_token"] -= of_class
    torch.save(state | {name: torch.cat((of_class, state[name]), dim=1)}, tmp_path / "m.bin")
    config = {"model_type": "eomt", "num_attention_heads": 2, "num_blocks": 2, "image_size": 96}
    for known in ({"backbone_overrides": {"num_heads": 2}}, None):
        loaded = load_model(tmp_path / "m.bin", known)
        with torch.no_grad():
            difference = loaded(image(1, (96, 96))).mask_logits - model.network(image(1, (96, 96))).mask_logits
        assert difference.abs().max() <= 1e-4
        (tmp_path / "config.json").write_text(json.dumps(config))  # which says what the second time does not
