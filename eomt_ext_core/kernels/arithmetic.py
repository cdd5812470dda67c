"""What several kernels compute with."""

from __future__ import annotations

import os

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
HALF_MAX = tl.constexpr(65504.0)
NAN_STAYS = tl.constexpr(tl.PropagateNan.ALL)
_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def add_product(left, right, total, operand_type: tl.constexpr):
    """Add a product of matrices, of operands of a type, to a float32 total."""
    left, right = left.to(operand_type), right.to(operand_type)
    if _INTERPRETED:  # the interpreter would multiply the bit patterns of bfloat16
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="ieee")
