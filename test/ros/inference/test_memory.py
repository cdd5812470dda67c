"""What says that memory is short: no ROS in it."""

import cv2
import numpy as np
import pytest
import torch

from eomt_ext_core import InferenceError
from eomt_ext_ros.inference.memory import is_out_of_memory


def opencv_error(border_px):
    try:
        cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), border_px, 0, border_px, 0, cv2.BORDER_CONSTANT)
    except cv2.error as error:
        return error
    raise AssertionError("OpenCV has taken it")


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (opencv_error(border_px=2_000_000_000), True),  # more than there are addresses
        (opencv_error(border_px=-1), False),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError("onnxruntime"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation after trying 3 plans."), True),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (InferenceError("the file says: out of memory"), False),
    ],
)
def test_it_is_known_when_memory_is_short(error, is_short):
    assert is_out_of_memory(error) is is_short


def test_what_came_of_a_lack_of_memory_is_one():
    error = RuntimeError("operation failed due to a previous error during capture")
    error.__context__ = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert is_out_of_memory(error)


def test_what_is_no_exception_lacks_no_memory():
    assert not is_out_of_memory("out of memory")
