"""Memory that is short, on the GPU or on the host: how it is told, and what is given back."""

from __future__ import annotations

import re
from contextlib import suppress

import cv2
import torch

from eomt_ext_ros.images import opencv_lacks_memory

# The last two are what PyTorch makes of a convolution for which memory was short with every algorithm of cuDNN.
_MEMORY_IS_SHORT = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|ALLOC(ATION)?_FAILED"
    r"|unable to find an engine to execute this computation|unable to find a valid cuDNN algorithm",
    re.IGNORECASE,
)


def is_out_of_memory(error: object) -> bool:
    """Whether this is an exception for which memory was short; CUDA's libraries have none of their own for it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, cv2.error):
        return opencv_lacks_memory(error)
    return isinstance(error, RuntimeError) and _MEMORY_IS_SHORT.search(str(error)) is not None


def free_gpu_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for a model that is gone."""
    with suppress(RuntimeError):  # a GPU that is lost says so when it is used next
        torch.cuda.empty_cache()
