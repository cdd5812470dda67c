"""Checkpoints and exported files of a tiny model, mutated."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fuzz.case import Case

PRELOAD = ("torch", "timm", "eomt_ext_core.engine", "eomt_ext_core.cli", "eomt_ext_core.export.onnx_scorer")
FORBIDDEN_EVENTS = ("pickle.find_class",)


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig, save_model

    chance = random.Random(seed)
    overrides = {"embed_dim": 16, "depth": 2, "num_heads": 2}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", (32, 48), 16, 4, 3, 2, False, overrides)
    model = EoMTExt(config, HeadConfig(16, 0.3, 8))
    save_model(model, folder / "intact.safetensors")
    intact = (folder / "intact.safetensors").read_bytes()
    yield Case("intact", folder / "intact.safetensors", _convert(folder, "intact.safetensors"), "success")
    for number in range(count - 1):
        name = f"{number:04d}.safetensors"
        data = bytearray(intact)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data) if chance.random() < 0.5 else 2000)] = chance.randrange(256)
        (folder / name).write_bytes(data)
        yield Case(f"{number:04d} bytes", folder / name, _convert(folder, name))


def _convert(folder: Path, name: str) -> tuple[str, ...]:
    return ("eomt-ext", "convert", str(folder / name), str(folder / "out" / "converted.safetensors"))
