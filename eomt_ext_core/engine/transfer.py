"""Images to the device and results back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer(Protocol):
    """Moves arrays between the caller and the device."""

    def upload(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) array to a (3, H, W) tensor on the device."""
        ...

    def download(self, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """Tensors to arrays of the same shapes and types, which nothing else holds."""
        ...


class HostTransfer:
    """Nothing to move where the CPU computes."""

    def upload(self, image: NDArray[np.uint8]) -> Tensor:
        """See :class:`Transfer`; shares the memory of the array where it can."""
        return _to_tensor(image).permute(2, 0, 1)

    def download(self, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """See :class:`Transfer`."""
        return [tensor.numpy() for tensor in tensors]


class CudaTransfer:
    """Copies through page-locked memory that run beside the host; it waits once, when everything is on its way.

    The memory comes from torch's caching allocators: in the steady state nothing is allocated, a block is used again
    only when the copies out of it are done, and when the caller has dropped the array that lies in it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def upload(self, image: NDArray[np.uint8]) -> Tensor:
        """See :class:`Transfer`; returns before the copy is done."""
        staged = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
        staged.copy_(_to_tensor(image))
        return staged.to(self._device, non_blocking=True).permute(2, 0, 1)

    def download(self, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """See :class:`Transfer`; the one point where the host waits for the device."""
        staged = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for target, tensor in zip(staged, tensors, strict=True):
            target.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        done.synchronize()
        return [tensor.numpy() for tensor in staged]


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    writeable: NDArray[np.uint8] = np.require(image, requirements=["C", "W"])  # torch refuses other arrays, or warns
    return torch.from_numpy(writeable)
