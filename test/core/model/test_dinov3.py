"""EoMT on DINOv3 against live Transformers, in every layout that it is published in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from eomt_ext_core import (
    AnomalyEngine,
    CheckpointError,
    EngineConfig,
    EoMTExt,
    HeadConfig,
    ModelConfig,
    load_model,
    save_model,
)  # fmt: skip
from eomt_ext_core.backends.inference_network import inference_network
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model
from eomt_ext_core.model.architecture import infer_model_config
from eomt_ext_core.model.vit import IMAGENET_MEAN, IMAGENET_STD

transformers = pytest.importorskip("transformers", minversion="5.0")

CROP_HW = (96, 96)
KNOWN = {"crop_hw": CROP_HW, "num_blocks": 2, "backbone_overrides": {"num_heads": 3}}
TOLERANCE = 1e-4
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def reference(randomise: Make) -> Make:
    def make(seed: int = 0, masked: bool = False, **changes: Any) -> Any:
        settings = {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "image_size": CROP_HW[0],
            "num_blocks": 2,
            "num_queries": 7,
            "num_labels": 5,
        }
        model = transformers.EomtDinov3ForUniversalSegmentation(transformers.EomtDinov3Config(**settings | changes))
        randomise(model, seed)
        model.attn_mask_probs.fill_(float(masked))
        return model.eval()

    return make


@torch.no_grad()
def differences(reference: Any, model: EoMTExt, images: Tensor) -> tuple[float, float]:
    """Largest differences of the mask and the class logits."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected, prediction = reference(pixel_values=(images - mean) / std), model(images)
    assert expected.masks_queries_logits.std() > 1, "a network of which every logit is small tests nothing"
    return (
        float((prediction.mask_logits - expected.masks_queries_logits).abs().max()),
        float((prediction.class_logits - expected.class_queries_logits).abs().max()),
    )


def official(reference: Any, prefix: str = "network.") -> dict[str, Tensor]:
    """The state dict under the names of the official code, written out by hand."""
    renamed: dict[str, Tensor] = {}
    heads = {"query.weight": "q.weight", "mask_head.fc1": "mask_head.0", "mask_head.fc2": "mask_head.2",
             "mask_head.fc3": "mask_head.4", "class_predictor": "class_head", "upscale_block.block": "upscale",
             "layernorm2d": "norm"}  # fmt: skip
    for key, value in reference.state_dict().items():
        if key.startswith("criterion"):
            continue
        if key.startswith("embeddings."):
            name = "encoder.backbone.patch_embed." + key.removeprefix("embeddings.")
        elif key.startswith("layers."):
            name = "encoder.backbone.blocks." + key.removeprefix("layers.")
        elif key.startswith("layernorm."):
            name = "encoder.backbone.norm." + key.removeprefix("layernorm.")
        else:
            name = key
            for theirs, ours in heads.items():
                name = name.replace(theirs, ours)
        renamed[prefix + name] = value.clone()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return renamed | {f"{prefix}encoder.pixel_mean": mean, f"{prefix}encoder.pixel_std": std}


def backbone_alone(num_layers: int = 4) -> Any:
    """Make a DINOv3 as it is published: Transformers' own ``DINOv3ViTModel``, with other weights."""
    config = transformers.DINOv3ViTConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=num_layers, num_attention_heads=3, num_register_tokens=4
    )
    model = transformers.DINOv3ViTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_outputs_are_those_of_transformers(
    reference: Make, tmp_path: Path, image: Make, seed: int, masked: bool
) -> None:
    theirs = reference(seed, masked)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config.masked_attention is masked
    assert ours.config.crop_hw == CROP_HW
    assert max(differences(theirs, ours, image(2, CROP_HW, seed))) <= TOLERANCE


def test_a_published_size(reference: Make, tmp_path: Path, image: Make) -> None:
    """ViT-S at 640×640 with 100 queries; the differences grow with depth and width."""
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
    theirs = reference(8, **sizes, image_size=640, num_blocks=3, num_queries=100, num_labels=19)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config.backbone == "vit_small_patch16_dinov3_qkvb"
    assert set(ours.config.backbone_overrides) == {"norm_eps"}
    assert max(differences(theirs, ours, image(1, (640, 640)))) <= 5e-4


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 1e-3])
def test_the_eps_of_the_norms_is_that_of_the_configuration(
    reference: Make, tmp_path: Path, image: Make, eps: float
) -> None:
    theirs = reference(3, layer_norm_eps=eps)
    theirs.save_pretrained(tmp_path)
    assert max(differences(theirs, load_model(tmp_path), image(1, CROP_HW))) <= TOLERANCE


@pytest.mark.parametrize("crop_hw", [(64, 128), (160, 96), (96, 96)])
def test_any_window_needs_no_resampling(reference: Make, tmp_path: Path, image: Make, crop_hw: tuple[int, int]) -> None:
    theirs = reference(1)
    theirs.save_pretrained(tmp_path)
    theirs.grid_size = (crop_hw[0] // 16, crop_hw[1] // 16)
    ours = load_model(tmp_path, {"crop_hw": crop_hw})
    assert max(differences(theirs, ours, image(1, crop_hw))) <= TOLERANCE


@pytest.mark.parametrize(
    ("gated", "backbone"), [(False, "vit_small_patch16_dinov3_qkvb"), (True, "vit_huge_plus_patch16_dinov3_qkvb")]
)
def test_the_official_layout(reference: Make, tmp_path: Path, image: Make, gated: bool, backbone: str) -> None:
    theirs = reference(2, layer_norm_eps=1e-5, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu")
    for module in (theirs.mask_head, *theirs.upscale_block.block):
        module.activation = nn.GELU()  # as the official code has it also on a backbone with gated MLPs
    torch.save(official(theirs), tmp_path / "pytorch_model.bin")
    ours = load_model(tmp_path / "pytorch_model.bin", KNOWN)
    assert ours.config.backbone == backbone
    assert max(differences(theirs, ours, image(2, CROP_HW))) <= TOLERANCE


def test_the_window_must_be_named_if_nothing_tells_it(reference: Make, tmp_path: Path) -> None:
    torch.save(official(reference()), tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=r"do not determine the window: set crop_hw .*convert --crop"):
        load_model(tmp_path / "m.bin", {name: KNOWN[name] for name in ("num_blocks", "backbone_overrides")})


def delta_and_base(theirs: Any, folder: Path, form: str = "folder") -> tuple[Path, Path]:
    """The published form: differences to the backbone in a file, and the backbone, a folder or a state dict."""
    backbone = backbone_alone()
    base = {key.removeprefix("model."): value for key, value in backbone.state_dict().items()}
    state, num_differences = official(theirs), 0
    for key in state:
        short = key.removeprefix("network.encoder.backbone.")
        short = short.replace("patch_embed.", "embeddings.").replace("blocks.", "layer.")
        if short in base:
            state[key], num_differences = state[key] - base[short], num_differences + 1
    assert num_differences == len(base) - 1, "all but the token that the backbone was trained with"
    state["network.encoder.pixel_mean"] = torch.zeros(1, 3, 1, 1)
    state["network.encoder.pixel_std"] = torch.zeros(1, 3, 1, 1)
    state["network.attn_mask_probs"] = theirs.attn_mask_probs - 1
    torch.save(state, folder / "delta.bin")
    path = folder / "base"
    if form == "folder":
        backbone.save_pretrained(path)
    else:
        torch.save(backbone.state_dict(), path)
    return folder / "delta.bin", path


@pytest.mark.parametrize("form", ["folder", "state dict"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_delta_and_its_base_add_up(reference: Make, tmp_path: Path, image: Make, masked: bool, form: str) -> None:
    theirs = reference(4, masked, layer_norm_eps=1e-5)
    delta, base = delta_and_base(theirs, tmp_path, form)
    ours = load_model(delta, KNOWN, base=base)
    assert ours.config.masked_attention is masked
    stored = torch.load(delta)
    added = load_file(base / "model.safetensors") if form == "folder" else torch.load(base)
    name = "layer.1.mlp.up_proj.weight"
    summed = stored["network.encoder.backbone.blocks.1.mlp.up_proj.weight"] + added.get(
        name, added.get("model." + name)
    )
    assert torch.equal(ours.network.encoder.backbone.blocks[1].mlp.fc1.weight, summed)
    assert max(differences(theirs, ours, image(1, CROP_HW))) <= 10 * TOLERANCE  # of sums with noise


def test_a_delta_alone_is_not_taken_for_weights(reference: Make, tmp_path: Path) -> None:
    delta, base = delta_and_base(reference(4), tmp_path)
    with pytest.raises(CheckpointError, match=r"differences to the weights of a DINOv3 .*convert --base"):
        load_model(delta, KNOWN)
    torch.save(official(reference(4)), tmp_path / "whole.bin")
    with pytest.raises(CheckpointError, match=r"holds weights already.*leave the base out"):
        load_model(tmp_path / "whole.bin", KNOWN, base=base)


def test_a_base_of_another_size_is_refused(reference: Make, tmp_path: Path) -> None:
    delta, _ = delta_and_base(reference(4), tmp_path)
    backbone_alone(3).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"the base does not fit: encoder\.backbone\.blocks\.3\..* is missing"):
        load_model(delta, KNOWN, base=tmp_path / "other")


def test_a_saved_model_is_loaded_as_it_was(reference: Make, tmp_path: Path, image: Make) -> None:
    theirs = reference(5, use_gated_mlp=True, hidden_act="silu", num_register_tokens=2)
    torch.save(official(theirs), tmp_path / "m.bin")
    model = load_model(tmp_path / "m.bin", KNOWN)
    save_model(model, tmp_path / "ours.safetensors")
    again = load_model(tmp_path / "ours.safetensors")
    assert again.config == model.config
    with torch.no_grad():
        for one, other in zip(model(image(1, CROP_HW)), again(image(1, CROP_HW)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("size", ["small", "base", "large", "huge_plus"])
def test_published_sizes_are_recognised(size: str) -> None:
    config = ModelConfig(f"vit_{size}_patch16_dinov3_qkvb", (640, 640))
    with torch.device("meta"):
        network = EoMTExt(config).network
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("encoder.pixel")}
    assert infer_model_config(state, torch.zeros(4), {"crop_hw": (640, 640)}) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key_bias": True}, "key_bias must be False, got True"),
        ({"hidden_act": "silu"}, "hidden_act must be gelu, got 'silu'"),
        ({"use_gated_mlp": True}, "use_gated_mlp must be False, got True"),
        ({"rope_parameters": {"rope_theta": 10.0, "rope_type": "default"}}, "rope_theta must be 100"),
        ({"model_type": "mask2former"}, "model_type must be eomt or eomt_dinov3, got 'mask2former'"),
    ],
)
def test_a_configuration_that_the_network_cannot_have(
    reference: Make, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    reference().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


@pytest.fixture
def with_head(reference: Make, tmp_path: Path, randomise: Make) -> EoMTExt:
    reference(6).save_pretrained(tmp_path)
    model = EoMTExt(load_model(tmp_path).config, HeadConfig(hidden_dim=16))
    randomise(model, 7)
    return model.eval()


@torch.no_grad()
def test_the_inference_network_is_the_same_function(with_head: EoMTExt, image: Make) -> None:
    images = image(2, CROP_HW)
    fast = inference_network(with_head.network, torch.device("cpu"), torch.float32)
    for ours, plain in zip(fast(images), with_head.network(images), strict=True):
        assert (ours - plain).abs().max() <= 2e-4 * plain.abs().max()
    assert all(block.gamma_1 is None and block.gamma_2 is None for block in fast.encoder.backbone.blocks)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_engine_runs_it(with_head: EoMTExt, precision: str) -> None:
    image_rgb = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    exact = AnomalyEngine(with_head, EngineConfig(device="cpu", precision="fp32")).infer(image_rgb).probability
    found = AnomalyEngine(with_head, EngineConfig(device="cpu", precision=precision)).infer(image_rgb).probability
    assert found.shape == (120, 200)
    assert np.isfinite(found).all()
    assert np.abs(found - exact).mean() < 0.05


def test_it_is_exported(with_head: EoMTExt, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export_model(with_head, tmp_path / "m.onnx", ExportConfig(scores=("head",)), {})
    image_rgb = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    exact = AnomalyEngine(with_head, EngineConfig(device="cpu", precision="fp32")).infer(image_rgb).probability
    exported = AnomalyEngine.load(tmp_path / "m.onnx", EngineConfig(device="cpu", backend="onnxruntime"))
    assert np.abs(exported.infer(image_rgb).probability - exact).max() < 1e-3
