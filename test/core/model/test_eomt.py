"""The network against live Transformers, against stored outputs of the official code, and on its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from eomt_ext_core import ConfigError, EoMT, EoMTExt, HeadConfig, load_model
from eomt_ext_core.model.vit import IMAGENET_MEAN, IMAGENET_STD
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics

MASK_TOLERANCE, CLASS_TOLERANCE = 5e-4, 5e-5

transformers = pytest.importorskip("transformers")

Randomise = Callable[[nn.Module, int], None]


@pytest.fixture(scope="module")
def hugging_face(randomise: Randomise) -> Callable[..., Any]:
    def make(seed: int, mask_probability: float = 0.0, **changes: Any) -> Any:
        settings = {
            "hidden_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "image_size": 96,
            "num_blocks": 2,
            "num_queries": 7,
            "num_labels": 5,
        }
        model = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**{**settings, **changes}))
        randomise(model, seed)
        model.attn_mask_probs.fill_(mask_probability)
        return model.eval()

    return make


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


@torch.no_grad()
def differences(reference: Any, model: EoMTExt, images: Tensor) -> tuple[float, float]:
    expected = reference(pixel_values=normalised(images))
    prediction = model(images)
    assert expected.masks_queries_logits.std() > 1, "a network of which every logit is small tests nothing"
    assert expected.class_queries_logits.std() > 0.1
    return (
        float((prediction.mask_logits - expected.masks_queries_logits).abs().max()),
        float((prediction.class_logits - expected.class_queries_logits).abs().max()),
    )


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("swiglu", [False, True], ids=["mlp", "swiglu"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_outputs_are_those_of_transformers(
    hugging_face: Any, tmp_path: Path, image: Callable[..., Tensor], seed: int, swiglu: bool, masked: bool
) -> None:
    reference = hugging_face(seed, mask_probability=float(masked), use_swiglu_ffn=swiglu)
    reference.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.config.masked_attention is masked
    assert model.config.crop_hw == (96, 96)
    masks, classes = differences(reference, model, image(2, (96, 96), seed))
    assert masks <= MASK_TOLERANCE
    assert classes <= CLASS_TOLERANCE


def test_outputs_for_a_crop_that_is_not_square(hugging_face: Any, tmp_path: Path, image: Callable[..., Tensor]) -> None:
    # Transformers builds square networks only, but runs others once it is told of the grid.
    reference = hugging_face(3, 1.0, num_hidden_layers=3, num_blocks=3)
    reference.embeddings.position_embeddings = nn.Embedding(4 * 7, 48)
    reference.embeddings.position_ids = torch.arange(4 * 7)[None]
    reference.grid_size = (4, 7)
    reference.config.image_size = [64, 112]
    reference.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.config.crop_hw == (64, 112)
    masks, classes = differences(reference, model, image(2, (64, 112)))
    assert masks <= MASK_TOLERANCE
    assert classes <= CLASS_TOLERANCE


def test_masked_attention_makes_a_difference(hugging_face: Any, tmp_path: Path, image: Callable[..., Tensor]) -> None:
    hugging_face(0, 1.0).save_pretrained(tmp_path)
    images = image(1, (96, 96))
    with torch.no_grad():
        masked = load_model(tmp_path)(images)
        plain = load_model(tmp_path, {"masked_attention": False})(images)
    assert (masked.mask_logits - plain.mask_logits).abs().max() > 0.1


@pytest.mark.parametrize("crop_hw", [(64, 96), (128, 128), (48, 192)])
def test_another_crop_resamples_the_positions_as_timm_does(
    hugging_face: Any, tmp_path: Path, image: Callable[..., Tensor], crop_hw: tuple[int, int]
) -> None:
    reference = hugging_face(1)
    reference.save_pretrained(tmp_path)
    model = load_model(tmp_path, {"crop_hw": crop_hw})
    stored = reference.embeddings.position_embeddings.weight.detach()[None]
    grid_hw = [crop_hw[0] // 16, crop_hw[1] // 16]
    expected = resample_abs_pos_embed(stored, grid_hw, [6, 6], num_prefix_tokens=0)
    assert torch.equal(model.network.encoder.backbone.pos_embed, expected)
    with torch.no_grad():
        prediction = model(image(1, crop_hw))
    assert prediction.mask_logits.shape == (1, 7, crop_hw[0] // 4, crop_hw[1] // 4)
    assert all(part.isfinite().all() for part in prediction)


@pytest.mark.parametrize("mode", ["nomask", "masked"])
def test_outputs_are_those_of_the_official_code(reference_folder: Path, mode: str) -> None:
    folder = reference_folder / "eomt_square"
    sizes = json.loads((folder / "meta.json").read_text())
    stored = np.load(folder / "io.npz")
    given = {"masked_attention": mode == "masked", "backbone_overrides": {"num_heads": sizes["num_heads"]}}
    model = load_model(folder, given)
    config = model.config
    assert config.crop_hw == tuple(sizes["img_size"])
    assert (config.num_queries, config.num_classes, config.num_blocks) == (
        sizes["num_q"],
        sizes["num_classes"],
        sizes["num_blocks"],
    )
    with torch.no_grad():
        prediction = model(torch.from_numpy(stored["image_uint8"]).float() / 255)
        semantic = semantic_map(prediction.mask_logits, prediction.class_logits, config.crop_hw)
    for name, ours, tolerance in (
        ("mask_logits", prediction.mask_logits, MASK_TOLERANCE),
        ("class_logits", prediction.class_logits, CLASS_TOLERANCE),
        ("patch_feat", prediction.features, CLASS_TOLERANCE),
        ("per_pixel_semantic", semantic, CLASS_TOLERANCE),
    ):
        difference = np.abs(ours.numpy() - stored[f"{name}_{mode}"]).max()
        assert difference <= tolerance, (name, difference)


def test_shapes_and_types(tiny_model: Callable[..., EoMTExt], image: Callable[..., Tensor]) -> None:
    with torch.no_grad():
        prediction = tiny_model()(image())
    assert prediction.mask_logits.shape == (2, 6, 16, 24)
    assert prediction.class_logits.shape == (2, 6, 6)
    assert prediction.features.shape == (2, 32, 4, 6)
    assert {part.dtype for part in prediction} == {torch.float32}


@pytest.mark.parametrize(("patch_size", "blocks", "reduction"), [(32, 3, 4), (16, 2, 4), (8, 1, 4), (4, 1, 2)])
def test_masks_are_at_a_quarter_except_for_smallest_patches(
    tiny_config: Callable[..., Any], patch_size: int, blocks: int, reduction: int
) -> None:
    network = EoMT(tiny_config(patch_size=patch_size)).eval()
    assert len(network.upscale) == blocks
    with torch.no_grad():
        masks = network(torch.zeros(1, 3, 64, 96)).mask_logits
    assert masks.shape[2:] == (64 // reduction, 96 // reduction)


@pytest.mark.parametrize("masked_attention", [False, True])
def test_images_of_a_batch_do_not_see_each_other(
    tiny_model: Callable[..., EoMTExt], image: Callable[..., Tensor], masked_attention: bool
) -> None:
    model, images = tiny_model(masked_attention=masked_attention), image(3)
    with torch.no_grad():
        together, alone = model(images), model(images[1:2])
    torch.testing.assert_close(together.mask_logits[1:2], alone.mask_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.class_logits[1:2], alone.class_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_overrides": {"embed_dim": 32, "num_heads": 5}}, "num_heads"),
        ({"num_blocks": 4}, "num_blocks must be at most the depth 3 .* got 4"),
    ],
)
def test_a_backbone_that_cannot_be_is_named(
    tiny_config: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        EoMT(tiny_config(**changes))


def test_only_the_head_learns(tiny_model: Callable[..., EoMTExt], head_config: HeadConfig) -> None:
    model = tiny_model(head_config).train()
    assert model.anomaly_head is not None
    assert model.anomaly_head.training
    assert not any(module.training for module in model.network.modules())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {f"anomaly_head.{name}" for name, _ in model.anomaly_head.named_parameters()}


def test_compute_anomaly_score_is_statistics_then_head(
    tiny_model: Callable[..., EoMTExt], head_config: HeadConfig, image: Callable[..., Tensor]
) -> None:
    model = tiny_model(head_config)
    assert model.anomaly_head is not None
    with torch.no_grad():
        masks, classes, features = model(image())
        logits = model.compute_anomaly_score(masks, classes, (30, 40), features)
        expected = model.anomaly_head(statistics(semantic_map(masks, classes, (30, 40))), features)
    assert logits.shape == (2, 30, 40, 1)
    assert torch.equal(logits, expected)


def test_a_model_without_a_head_says_so(tiny_model: Callable[..., EoMTExt], image: Callable[..., Tensor]) -> None:
    model = tiny_model()
    with torch.no_grad():
        masks, classes, features = model(image(1))
    with pytest.raises(RuntimeError, match="no anomaly head"):
        model.compute_anomaly_score(masks, classes, (64, 96), features)
