"""Recognition of the layout of a state dict.

Official (github.com/tue-mps/eomt): keys under ``network.`` as :class:`~eomt_ext_core.model.eomt.EoMT` names them.
Transformers: the same weights under other names, query, key and value apart. lightly-train: see :mod:`~.lightly`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from eomt_ext_core.model.layouts.dinov2 import DINOV2
from eomt_ext_core.model.layouts.dinov3 import from_dinov3, is_dinov3
from eomt_ext_core.model.layouts.lightly import from_lightly, is_lightly

# Wrappers that training tools leave around a network, in any order.
_PREFIXES = ("_orig_mod.", "module.", "model.", "network.")
_IGNORED = ("criterion.",)
_HEAD_PREFIX = "anomaly_head."
_CLASS, _POSITIONS = "encoder.backbone.cls_token", "encoder.backbone.pos_embed"


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint by module.

    Attributes:
        network: of the EoMT, official names without ``network.``; empty in a separate head file.
        head: of the anomaly head, ``feature_proj.*`` and ``mlp.*``; empty if there is none.
        attn_mask_probs: (num_blocks,), the annealing state of masked attention; none if the file has none.
    """

    network: dict[str, Tensor]
    head: dict[str, Tensor]
    attn_mask_probs: Tensor | None


def sort_weights(state: Mapping[str, Tensor], *, is_own: bool = False) -> Weights:
    """Convert a state dict to the official layout.

    Unknown keys keep their names; strict loading reports them.

    Args:
        state: of a file.
        is_own: whether this package wrote it, whose models never have a position for the class token.

    Raises:
        CheckpointError: if tensors that belong together do not fit together.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = without_wrappers(key)
        plain[key if name in plain else name] = value  # a second network with another prefix is not the model's
    plain = {key: value for key, value in plain.items() if not key.startswith(_IGNORED)}
    probs = plain.pop("attn_mask_probs", None)
    head = {key.removeprefix(_HEAD_PREFIX): plain.pop(key) for key in list(plain) if key.startswith(_HEAD_PREFIX)}
    if not head and plain and all(key.startswith(("mlp.", "feature_proj.")) for key in plain):
        return Weights({}, plain, probs)
    if is_lightly(plain):
        plain = from_lightly(plain)
    elif is_dinov3(plain):
        plain = from_dinov3(plain)
    elif any(key.startswith(("embeddings.", "layers.")) for key in plain):
        plain = DINOV2.apply(plain)
        if (positions := plain.get(_POSITIONS)) is not None and positions.ndim == 2:
            plain[_POSITIONS] = positions[None]
    elif not is_own:
        plain = _without_class_position(plain)
    return Weights(plain, head, probs)


def _without_class_position(network: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the position of the class token to that token: a DINOv2 without registers has one.

    The number of positions tells, if the rest of them is a square.
    """
    token, positions = network.get(_CLASS), network.get(_POSITIONS)
    if "encoder.backbone.reg_token" in network or token is None or positions is None or positions.ndim != 3:
        return network
    count = positions.shape[1]
    if _is_square(count) or not _is_square(count - 1) or token.shape != positions[:, :1].shape:
        return network
    return network | {_CLASS: token + positions[:, :1], _POSITIONS: positions[:, 1:]}


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def without_wrappers(key: str) -> str:
    """Return the name of a tensor without the prefixes that training tools put before it."""
    while prefix := next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None):
        key = key.removeprefix(prefix)
    return key
