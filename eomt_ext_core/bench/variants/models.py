"""Models of a benchmark: random ones of the published sizes, or a checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from eomt_ext_core.bench.config import SIZES
from eomt_ext_core.config import HeadConfig, ModelConfig
from eomt_ext_core.model.checkpoint import load_model
from eomt_ext_core.model.eomt_ext import EoMTExt

CROP_HW = (640, 640)
# The head of the reference document: on the concatenation of the statistics and all features.
HEAD = HeadConfig(feature_proj_dim=None)


def make_model(name: str) -> EoMTExt:
    """Make a fixed random model of a published size, or load a checkpoint, in eval mode.

    Args:
        name: ``small``, ``base``, ``large``, or as for :func:`~eomt_ext_core.model.checkpoint.load_model`.

    Raises:
        CheckpointError: like ``load_model``.
    """
    if name not in SIZES:
        return load_model(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EoMTExt(ModelConfig(f"vit_{name}_patch14_reg4_dinov2", CROP_HW), HEAD).eval()


def make_transformers_network(model: EoMTExt) -> Any:
    """Give Hugging Face Transformers' EoMT of a model's architecture, on DINOv2 or DINOv3, with random weights.

    Its masked attention is off, as at the end of training: like ours, it runs plain blocks.
    """
    import transformers

    config, encoder = model.config, model.network.encoder
    settings: dict[str, Any] = {
        "hidden_size": encoder.embed_dim,
        "num_hidden_layers": len(encoder.backbone.blocks),
        "num_attention_heads": encoder.backbone.blocks[0].attn.num_heads,
        "image_size": config.crop_hw[0],
        "patch_size": config.patch_size,
        "num_blocks": config.num_blocks,
        "num_queries": config.num_queries,
        "num_labels": config.num_classes,
        "num_upscale_blocks": len(model.network.upscale),
    }
    network: Any
    if encoder.rotates:
        settings["intermediate_size"] = encoder.backbone.blocks[0].mlp.fc2.in_features
        network = transformers.EomtDinov3ForUniversalSegmentation(transformers.EomtDinov3Config(**settings))
    else:
        network = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**settings))
    network.attn_mask_probs.zero_()
    return network.eval()
