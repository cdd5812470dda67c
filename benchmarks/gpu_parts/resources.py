"""What the Triton kernels take of each architecture, from their compilation alone: no GPU is needed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.gpu_parts.setting import Setting
from eomt_ext_core.kernels.class_map import best_classes
from eomt_ext_core.kernels.embedding import embed_patches
from eomt_ext_core.kernels.norm import add_and_normalise
from eomt_ext_core.kernels.upscale import WARPS, mix_and_normalise
from eomt_ext_core.scoring.fused_kernel import FLOAT_TILE, HALF_TILES, score_pixels
from eomt_ext_core.scoring.lean_kernel import LEAN_TILES, score_pixels_lean

# Ampere (A100, RTX 30, Orin), Ada, Hopper, Blackwell (B200, RTX 50).
ARCHITECTURES = (80, 86, 87, 89, 90, 100, 120)
_INSTRUCTIONS = {"tcgen05": "tcgen05.mma", "wgmma": "wgmma.mma", "mma": "mma.sync", "fma": "fma.rn.f32"}
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
_WARP = 32


class Case(NamedTuple):
    """A kernel as it is launched for ViT-B at 640×640: sizes, the types of its pointers and numbers, and options."""

    kernel: Any
    constants: Mapping[str, Any]
    types: Mapping[str, str]
    options: Mapping[str, Any]


class Resources(NamedTuple):
    """Of one kernel on one architecture.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread's registers that go through memory.
        shared: bytes of shared memory of a program.
        product: kind of the instructions that multiply matrices.
        tf32: whether any of them rounds float32 to TF32.
    """

    registers: int
    spilled: int
    shared: int
    product: str
    tf32: bool


def cases() -> Iterator[tuple[str, Case]]:
    """All kernels by name."""
    for index, tile in enumerate(HALF_TILES):
        yield f"score_pixels, bf16, tile {index}", scoring_case(tile, "bf16")
    yield "score_pixels, fp32", scoring_case(FLOAT_TILE, "fp32", hidden=64)
    for tile in LEAN_TILES:
        yield f"score_pixels_lean, bf16, 8×{tile.kwargs['TILE_W']}", scoring_case(tile, "bf16")
    fused = {"enable_fp_fusion": True}
    embedding = {"ROWS": 40, "COLUMNS": 40, "PATCH": 16, "CHANNELS": 768, "PREFIX": 5}
    embedding |= {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}
    yield "embed_patches", Case(embed_patches, embedding, {"windows": "*u8", "upper": "*bf16", "lower": "*bf16"}, fused)
    norm = {"CHANNELS": 768, "BLOCK": 1024, "ADDS": True}
    types = {"branch": "*bf16", "normalised": "*bf16", "epsilon": "fp32"}
    yield "add_and_normalise", Case(add_and_normalise, norm, types, fused)
    upscale = {"SOURCE_H": 80, "SOURCE_W": 80, "CHANNELS": 768, "BLOCK": 1024, "PIXELS": 4}
    types = dict.fromkeys(("successors", "weight", "bias", "result"), "*bf16") | {"epsilon": "fp32"}
    yield "mix_and_normalise", Case(mix_and_normalise, upscale, types, fused | {"num_warps": WARPS})
    sizes = ("class_stride", "row_stride", "source_h", "source_w", "height", "width")
    types = {"classes": "*u8"} | dict.fromkeys(sizes, "i32") | dict.fromkeys(("y_scale", "x_scale"), "fp32")
    yield "best_classes", Case(best_classes, {"CLASSES": 19, "BLOCK": 256}, types, fused)


def scoring_case(tile: triton.Config, dtype: str, hidden: int = 256) -> Case:
    sizes = {"QUERIES": 100, "CLASSES": 19, "MASK_H": 160, "MASK_W": 160, "PATCH_H": 40, "PATCH_W": 40}
    sizes |= {"HEIGHT": 640, "WIDTH": 640, "HIDDEN": hidden, "SECOND": hidden // 2}
    lean = "BLOCK_Q" not in tile.kwargs
    sizes |= {"BLOCK_C": 32} | ({"QUERIES_PADDED": 112} if lean else {"BLOCK_SECOND": hidden // 2})
    types = {"mask_logits": f"*{dtype}", "visual": f"*{dtype}", "second_weight": f"*{dtype}", "batch": "i32"}
    types |= {"class_probs": "*fp16"} if lean else {}
    options = {name: value for name, value in tile.all_kwargs().items() if name not in tile.kwargs}
    kernel = score_pixels_lean if lean else score_pixels
    return Case(kernel, {**sizes, **tile.kwargs}, types, {**options, "enable_fp_fusion": True})


def compile_for(case: Case, architecture: int) -> Resources:
    """Compile a kernel and read what it takes from the machine code."""
    signature = {
        name: "constexpr" if name in case.constants else case.types.get(name, "*fp32")
        for name in case.kernel.arg_names
    }  # fmt: skip
    source = ASTSource(case.kernel, signature, dict(case.constants))
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, _WARP), options=dict(case.options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(_CUOBJDUMP), "--dump-resource-usage", file.name]
        usage = _USAGE.search(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ptx = compiled.asm["ptx"]
    product = next((name for name, instruction in _INSTRUCTIONS.items() if instruction in ptx), "none")
    assert usage is not None
    registers, spilled = map(int, usage.groups())
    return Resources(registers, spilled, compiled.metadata.shared, product, "tf32" in ptx)


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    architectures = ARCHITECTURES[:1] if setting.quick else ARCHITECTURES
    named = list(cases())[:1] if setting.quick else list(cases())
    kernels: dict[str, Any] = {}
    for name, case in named:
        kernels[name] = {f"sm_{number}": compile_for(case, number)._asdict() for number in architectures}
        yield {"triton": triton.__version__, "kernels": kernels}
