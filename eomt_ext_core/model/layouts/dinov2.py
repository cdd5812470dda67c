"""EoMT on DINOv2 with the names of Hugging Face Transformers (``EomtForUniversalSegmentation``)."""

from __future__ import annotations

from eomt_ext_core.model.layouts.renaming import Join, Renaming

_BLOCK = r"encoder.backbone.blocks.\1"

# What stands on the backbone has the same names for all backbones.
HEADS: tuple[tuple[str, str], ...] = (
    (r"query\.weight", "q.weight"),
    (r"class_predictor\.(\w+)", r"class_head.\1"),
    (r"mask_head\.fc1\.(\w+)", r"mask_head.0.\1"),
    (r"mask_head\.fc2\.(\w+)", r"mask_head.2.\1"),
    (r"mask_head\.fc3\.(\w+)", r"mask_head.4.\1"),
    (r"upscale_block\.block\.(\d+)\.(conv[12])\.(\w+)", r"upscale.\1.\2.\3"),
    (r"upscale_block\.block\.(\d+)\.layernorm2d\.(\w+)", r"upscale.\1.norm.\2"),
)

DINOV2 = Renaming(
    names=(
        (r"embeddings\.cls_token", "encoder.backbone.cls_token"),
        (r"embeddings\.register_tokens", "encoder.backbone.reg_token"),
        (r"embeddings\.position_embeddings\.weight", "encoder.backbone.pos_embed"),
        (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"encoder.backbone.patch_embed.proj.\1"),
        (r"layers\.(\d+)\.norm([12])\.(\w+)", rf"{_BLOCK}.norm\2.\3"),
        (r"layers\.(\d+)\.attention\.out_proj\.(\w+)", rf"{_BLOCK}.attn.proj.\2"),
        (r"layers\.(\d+)\.layer_scale([12])\.lambda1", rf"{_BLOCK}.ls\2.gamma"),
        (r"layers\.(\d+)\.mlp\.(fc[12])\.(\w+)", rf"{_BLOCK}.mlp.\2.\3"),
        (r"layers\.(\d+)\.mlp\.weights_in\.(\w+)", rf"{_BLOCK}.mlp.fc1.\2"),
        (r"layers\.(\d+)\.mlp\.(?:weights_out|down_proj)\.(\w+)", rf"{_BLOCK}.mlp.fc2.\2"),
        (r"layernorm\.(\w+)", r"encoder.backbone.norm.\1"),
        *HEADS,
    ),
    joins=(
        Join(
            r"layers\.(\d+)\.attention\.(?P<part>q_proj|k_proj|v_proj)\.(\w+)",
            ("q_proj", "k_proj", "v_proj"),
            rf"{_BLOCK}.attn.qkv.\3",
        ),
        Join(
            r"layers\.(\d+)\.mlp\.(?P<part>gate_proj|up_proj)\.(\w+)", ("gate_proj", "up_proj"), rf"{_BLOCK}.mlp.fc1.\3"
        ),
    ),
)
