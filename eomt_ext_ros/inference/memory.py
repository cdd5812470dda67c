"""Memory that is short, on the GPU or on the host: how to recognise it, and how to free what a model held."""

from __future__ import annotations

import gc
import re
from contextlib import suppress

import cv2
import torch

from eomt_ext_core.images.decoder import opencv_lacks_memory
from eomt_ext_ros.inference.tracebacks import chain

# The second line is what PyTorch makes of a convolution for which memory was short with every algorithm of cuDNN, and
# of a handle that cuBLAS had no memory for.
_MEMORY_IS_SHORT = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|ALLOC(ATION)?_FAILED"
    r"|unable to find an engine to execute|unable to find a valid cuDNN algorithm|CUBLAS_STATUS_NOT_INITIALIZED",
    re.IGNORECASE,
)


def is_out_of_memory(error: object) -> bool:
    """Whether this is an exception for which memory was short, or that came of one."""
    return isinstance(error, Exception) and any(map(_tells_of_short_memory, chain(error)))


def free_model_memory() -> None:
    """Free the memory of a model that is gone, on the host and on the GPU."""
    gc.collect()  # a model lies in reference cycles, and would stay in memory beside the next one
    with suppress(RuntimeError):  # a lost GPU raises again when it is used next
        torch.cuda.empty_cache()


def _tells_of_short_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, cv2.error):
        return opencv_lacks_memory(error)
    # CUDA's libraries have no exception of their own for it.
    return isinstance(error, RuntimeError) and _MEMORY_IS_SHORT.search(str(error)) is not None
