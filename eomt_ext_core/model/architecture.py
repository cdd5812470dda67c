"""Inference of a model's architecture from the shapes of its weights; errors name the fields that they leave open."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from eomt_ext_core.config import HeadConfig, ModelConfig
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.positions import POSITIONS
from eomt_ext_core.model.upscale import usual_blocks
from eomt_ext_core.scoring.uncertainty import NUM_STATISTICS

_PATCHES = "encoder.backbone.patch_embed.proj.weight"
_BLOCK_INDEX = re.compile(r"encoder\.backbone\.blocks\.(\d{1,4})\.")


class _Undetermined(CheckpointError):
    """The weights do not determine a field of the configuration; ``flag``: how `eomt-ext convert` takes it."""

    def __init__(self, message: str, flag: str) -> None:
        super().__init__(f"{message} (`eomt-ext convert {flag}`)")
        self.flag = flag


class LeftOpen(CheckpointError):
    """Weights do not determine an architecture.

    ``flags``: how `eomt-ext convert` takes what is missing; ``sizes``: what the weights do determine, by name.
    """

    def __init__(self, missing: Sequence[_Undetermined], sizes: Mapping[str, int]) -> None:
        self.flags, self.sizes = tuple(item.flag for item in missing), dict(sizes)
        text = "; ".join(map(str, missing))
        super().__init__(text if len(missing) == 1 else f"give {' '.join(self.flags)} to `eomt-ext convert`: {text}")


@dataclass(frozen=True)
class _Family:
    """The ViTs of one pretraining.

    ``standard``: by (embed_dim, depth) the name in timm and the number of attention heads; other sizes are overrides of
    ``plain`` or, with a gated MLP, of ``gated``. ``needed``: what the sizes are read from besides what all have, and
    its dimensions. ``registers``: how many are usual.
    """

    standard: Mapping[tuple[int, int], tuple[str, int]]
    plain: str
    gated: str
    needed: Mapping[str, int]
    registers: int = 4


_DINOV2 = _Family(
    standard={
        (384, 12): ("vit_small_patch14_reg4_dinov2", 6),
        (768, 12): ("vit_base_patch14_reg4_dinov2", 12),
        (1024, 24): ("vit_large_patch14_reg4_dinov2", 16),
        (1536, 40): ("vit_giant_patch14_reg4_dinov2", 24),
    },
    plain="vit_small_patch14_reg4_dinov2",
    gated="vit_giant_patch14_reg4_dinov2",
    needed={POSITIONS: 3, "encoder.backbone.blocks.0.mlp.fc1.weight": 2},
)
_DINOV3 = _Family(
    standard={
        (384, 12): ("vit_small_patch16_dinov3_qkvb", 6),
        (768, 12): ("vit_base_patch16_dinov3_qkvb", 12),
        (1024, 24): ("vit_large_patch16_dinov3_qkvb", 16),
        (1280, 32): ("vit_huge_plus_patch16_dinov3_qkvb", 20),
    },
    plain="vit_small_patch16_dinov3_qkvb",
    gated="vit_huge_plus_patch16_dinov3_qkvb",
    needed={"encoder.backbone.blocks.0.gamma_1": 1},
)
_NEEDED = {
    _PATCHES: 4,
    "q.weight": 2,
    "class_head.weight": 2,
    "encoder.backbone.blocks.0.mlp.fc2.weight": 2,
}


def infer_model_config(
    network: Mapping[str, Tensor], attn_mask_probs: Tensor | None, known: Mapping[str, Any]
) -> ModelConfig:
    """Determine an EoMT's architecture.

    Args:
        network: state dict with official names.
        attn_mask_probs: the checkpoint's buffer of that name, or none; its length is the number of blocks.
        known: fields of :class:`ModelConfig` from another source. They decide if the shapes leave a choice, and must
            agree with the shapes otherwise.

    Returns:
        the configuration, in which ``trained_crop_hw`` is the window that the position embedding is laid out for.

    Raises:
        LeftOpen: naming all fields that are not determined.
        CheckpointError: naming one that contradicts the weights.
        ConfigError: if a field breaks its rule.
    """
    unknown = set(known) - {field.name for field in fields(ModelConfig)}
    if unknown:
        raise CheckpointError(f"the given configuration has no field {', '.join(sorted(unknown))}")
    family = _family_of(network)
    found = _read_shapes(network, family)
    for name in ("patch_size", "num_queries", "num_classes"):
        if known.get(name, found[name]) != found[name]:
            raise CheckpointError(f"{name} is {found[name]} in the weights, but {known[name]} in the configuration")
    _check_determined(family, found, attn_mask_probs, known)
    trained, crop = known.get("trained_crop_hw"), known.get("crop_hw")
    if family is _DINOV3:
        trained = _crop_without_positions(trained, crop)
    elif trained is None:
        trained = _infer_trained_crop(found)
    config = ModelConfig(
        backbone=known.get("backbone", family.plain),
        crop_hw=trained if crop is None else crop,
        patch_size=found["patch_size"],
        num_queries=found["num_queries"],
        num_classes=found["num_classes"],
        num_blocks=_infer_num_blocks(attn_mask_probs, known.get("num_blocks")),
        masked_attention=_infer_masked_attention(attn_mask_probs, known.get("masked_attention")),
        upscale_blocks=_upscale_blocks(network, found["patch_size"]),
        upscale_eps=known.get("upscale_eps", ModelConfig.upscale_eps),
        backbone_overrides=known.get("backbone_overrides", {}),
        trained_crop_hw=None if trained == crop else trained,
    )
    overrides = config.backbone_overrides
    for name in ("embed_dim", "depth"):
        if overrides.get(name, found[name]) != found[name]:
            raise CheckpointError(
                f"backbone_overrides[{name!r}] is {found[name]} in the weights, "
                f"but {overrides[name]} in the configuration"
            )
    if "backbone" not in known:
        backbone, overrides = _infer_backbone(family, found, overrides)
        config = replace(config, backbone=backbone, backbone_overrides=overrides)
    if family is _DINOV2:
        _check_trained_crop(config, found["num_patches"])
    return replace(config, trained_crop_hw=None) if config.trained_crop_hw == config.crop_hw else config


def _check_determined(
    family: _Family, found: Mapping[str, int], attn_mask_probs: Tensor | None, known: Mapping[str, Any]
) -> None:
    """Raise ``LeftOpen`` with everything that weights and given fields leave open, so that one answer is enough."""
    trained, crop = known.get("trained_crop_hw"), known.get("crop_hw")
    steps: list[Callable[[], Any]] = [
        lambda: _infer_num_blocks(attn_mask_probs, known.get("num_blocks")),
        lambda: _infer_masked_attention(attn_mask_probs, known.get("masked_attention")),
    ]
    if "backbone" not in known:
        steps.append(lambda: _infer_backbone(family, found, known.get("backbone_overrides", {})))
    if family is _DINOV3:
        steps.append(lambda: _crop_without_positions(trained, crop))
    elif trained is None:
        steps.append(lambda: _infer_trained_crop(found))
    left: list[_Undetermined] = []
    for step in steps:
        try:
            step()
        except _Undetermined as error:
            left.append(error)
    if left:
        raise LeftOpen(left, found)


def infer_head_config(head: Mapping[str, Tensor], feature_dim: int) -> HeadConfig:
    """Determine the head's form from its weights; dropout has none and keeps its default.

    Raises:
        CheckpointError: if the weights are not those of an anomaly head on ``feature_dim`` features.
    """
    first, projection = head.get("mlp.0.weight"), head.get("feature_proj.0.weight")
    if first is None or first.ndim != 2:
        raise CheckpointError("the anomaly head must hold a matrix 'mlp.0.weight', found " + _listing(head))
    if projection is not None and projection.ndim != 4:
        raise CheckpointError(
            "the anomaly head's 'feature_proj.0.weight' must be a convolution's (4 dimensions), "
            f"got shape {tuple(projection.shape)}"
        )
    visual_dim = first.shape[1] - NUM_STATISTICS
    projected = None if projection is None else int(projection.shape[0])
    expected = feature_dim if projected is None else projected
    given = visual_dim if projection is None or visual_dim != expected else int(projection.shape[1])
    if visual_dim != expected or (projection is not None and given != feature_dim):
        raise CheckpointError(
            f"the anomaly head takes {given} visual features, but the network gives {feature_dim}: "
            "it was trained on another backbone"
        )
    return HeadConfig(hidden_dim=int(first.shape[0]), feature_proj_dim=projected)


def _family_of(network: Mapping[str, Tensor]) -> _Family:
    return _DINOV3 if any(key in network for key in _DINOV3.needed) else _DINOV2


def _read_shapes(network: Mapping[str, Tensor], family: _Family) -> dict[str, int]:
    needed = {**family.needed, **_NEEDED}
    missing = [key for key in needed if key not in network]
    if missing:
        raise CheckpointError(
            f"these are not the weights of an EoMT: {', '.join(missing[:4])} not found among {_listing(network)}"
        )
    for key, ndim in needed.items():
        if network[key].ndim != ndim:
            raise CheckpointError(f"{key} must have {ndim} dimensions, got shape {tuple(network[key].shape)}")
    positions = network.get(POSITIONS)
    if family is _DINOV2 and network[POSITIONS].shape[0] != 1:
        raise CheckpointError(f"{POSITIONS} must have shape (1, N, C), got {tuple(network[POSITIONS].shape)}")
    registers = network.get("encoder.backbone.reg_token")
    if registers is not None and registers.ndim != 3:
        raise CheckpointError(f"encoder.backbone.reg_token must have 3 dimensions, got shape {tuple(registers.shape)}")
    gate = network.get("encoder.backbone.blocks.0.mlp.fc1_g.weight")
    fc2 = network["encoder.backbone.blocks.0.mlp.fc2.weight"]
    fc1 = network.get("encoder.backbone.blocks.0.mlp.fc1.weight", gate)
    if fc1 is None or fc1.ndim != 2:
        raise CheckpointError("encoder.backbone.blocks.0.mlp must begin with a matrix fc1.weight or fc1_g.weight")
    found = {
        "embed_dim": int(network[_PATCHES].shape[0]),
        "num_patches": 1 if positions is None else int(positions.shape[-2]),
        "patch_size": int(network[_PATCHES].shape[-1]),
        "num_queries": int(network["q.weight"].shape[0]),
        "num_classes": int(network["class_head.weight"].shape[0]) - 1,
        "depth": 1 + max(int(match[1]) for key in network if (match := _BLOCK_INDEX.match(key))),
        "mlp_dim": int(fc1.shape[0]),
    }
    empty = [name for name, size in found.items() if size < 1]
    if empty:
        raise CheckpointError(f"{empty[0]} must be at least 1, got {found[empty[0]]} in the weights")
    return found | {
        "gated": int(gate is not None or fc2.shape[1] != fc1.shape[0]),
        "reg_tokens": 0 if registers is None else int(registers.shape[1]),
    }


def _infer_backbone(
    family: _Family, found: Mapping[str, int], overrides: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    standard, num_heads = family.standard.get((found["embed_dim"], found["depth"]), (None, 0))
    usual = found["reg_tokens"] == family.registers and bool(found["gated"]) == (standard == family.gated)
    kept = {name: value for name, value in overrides.items() if name == "norm_eps"}
    if standard and usual and overrides in (kept, {"num_heads": num_heads, **kept}):
        return standard, kept
    if "num_heads" not in overrides:
        raise _Undetermined(
            f"the weights (embed_dim {found['embed_dim']}, depth {found['depth']}) do not determine the number of "
            "attention heads: give backbone_overrides['num_heads'] in the configuration",
            "--num-heads",
        )
    sizes: dict[str, Any] = {"embed_dim": found["embed_dim"], "depth": found["depth"]}
    # timm truncates embed_dim * mlp_ratio; the half keeps rounding errors from losing a unit.
    sizes["mlp_ratio"] = (found["mlp_dim"] + 0.5) / found["embed_dim"]
    if found["mlp_dim"] == 4 * found["embed_dim"]:
        sizes["mlp_ratio"] = 4.0
    if found["reg_tokens"] != family.registers:
        sizes["reg_tokens"] = found["reg_tokens"]
    return family.gated if found["gated"] else family.plain, {**sizes, **overrides}


def _upscale_blocks(network: Mapping[str, Tensor], patch_size: int) -> int:
    """Count the upscaling blocks; 0 if there are as many as official EoMT has."""
    count = len({key.split(".")[1] for key in network if key.startswith("upscale.")})
    return 0 if count == usual_blocks(patch_size) else count


def _crop_without_positions(trained: Any, crop: Any) -> Any:
    """Choose the window of a DINOv3, which has no weights for a particular window."""
    if trained is None and crop is None:
        raise _Undetermined(
            "the weights of a DINOv3 do not determine the window: set crop_hw in the configuration", "--crop"
        )
    return trained if crop is None else crop


def _infer_trained_crop(found: Mapping[str, int]) -> tuple[int, int]:
    side = math.isqrt(found["num_patches"])
    if side * side != found["num_patches"]:
        raise _Undetermined(
            f"a position embedding of {found['num_patches']} patches is not square: give trained_crop_hw in the "
            "configuration, the height and width that it was trained at",
            "--trained-crop",
        )
    return side * found["patch_size"], side * found["patch_size"]


def _check_trained_crop(config: ModelConfig, num_patches: int) -> None:
    height, width = config.trained_crop_hw or config.crop_hw
    wanted = (height // config.patch_size) * (width // config.patch_size)
    if wanted != num_patches:
        raise CheckpointError(
            f"a window of {width}×{height} pixels has {wanted} patches of {config.patch_size}, but the position "
            f"embedding holds {num_patches}: it was trained at another"
        )


def _infer_num_blocks(attn_mask_probs: Tensor | None, known: int | None) -> int:
    stored = None if attn_mask_probs is None else attn_mask_probs.numel()
    if stored is None and known is None:
        raise _Undetermined(
            "the weights do not determine num_blocks (no 'attn_mask_probs'): give it in the configuration",
            "--num-blocks",
        )
    if stored is not None and known is not None and stored != known:
        raise CheckpointError(f"num_blocks is {stored} in the weights, but {known} in the configuration")
    return stored if known is None else known  # type: ignore[return-value]


def _infer_masked_attention(attn_mask_probs: Tensor | None, known: bool | None) -> bool:
    if known is not None:
        return known
    if attn_mask_probs is None or bool((attn_mask_probs <= 0).all()):
        return False
    if bool((attn_mask_probs >= 1).all()):
        return True
    raise _Undetermined(
        f"training stopped while masked attention was being annealed (attn_mask_probs {attn_mask_probs.tolist()}): "
        "give masked_attention in the configuration",
        "--masked-attention",
    )


def _listing(state: Mapping[str, Tensor], most: int = 4) -> str:
    keys = sorted(state)
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "") if keys else "nothing"
