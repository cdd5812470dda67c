"""Images to the device and results back, while the device computes other batches."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IN_FLIGHT = 2
"""Batches of which one is uploaded or downloaded while the device computes the other."""

_STAGING_SETS = IN_FLIGHT + 2  # a batch is being published, and another drawn
_ALIGNMENT = 512  # bytes; as torch's allocator places tensors

Arrays = Callable[[], list[NDArray[Any]]]


class Transfer(Protocol):
    """Moves arrays between the caller and the device."""

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """Turn (H, W, 3) arrays into (3, H, W) tensors on the device, for work that is queued inside the block."""
        ...

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """Begin to turn tensors into arrays of the same shapes and types, which nothing else holds.

        Returns:
            what waits for the arrays, and returns them.
        """
        ...


class HostTransfer:
    """Moves nothing: the CPU computes."""

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """See :class:`Transfer`; shares the memory of the arrays if it can."""
        return nullcontext([_to_tensor(image).permute(2, 0, 1) for image in images])

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """See :class:`Transfer`."""
        arrays = [tensor.numpy() for tensor in tensors]
        return lambda: arrays


class CudaTransfer:
    """Copies through page-locked memory, in both directions at once and beside the computation.

    Uploads and downloads have a stream each; events order them with the stream that computes. The host waits only for
    a download, and for an upload buffer if more than ``IN_FLIGHT`` batches are submitted.

    Upload buffers grow to the largest batch. Downloaded arrays lie in blocks of torch's page-locked pool, which get
    free when the caller drops the arrays; the first download of a shape fills the pool, and later ones allocate nothing
    unless the caller holds more than ``_STAGING_SETS`` of them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._upload_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._download_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers = itertools.cycle([_UploadBuffer(device) for _ in range(IN_FLIGHT)])
        self._staged: Counter[tuple[torch.Size, torch.dtype]] = Counter()

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """See :class:`Transfer`; returns before the copy is done."""
        return next(self._buffers).upload(images, self._upload_stream)

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """See :class:`Transfer`."""
        self._fill_pool(tensors)
        staged = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        self._download_stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._download_stream):
            for target, tensor in zip(staged, tensors, strict=True):
                target.copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._download_stream)
        sources = list(tensors)  # the stream that computes would use their memory again before they are copied

        def arrays() -> list[NDArray[Any]]:
            done.synchronize()
            sources.clear()
            return [tensor.numpy() for tensor in staged]

        return arrays

    def _fill_pool(self, tensors: Sequence[Tensor]) -> None:
        """Have as many page-locked blocks of these shapes as can be in use at a time."""
        for key, count in Counter((tensor.shape, tensor.dtype) for tensor in tensors).items():
            if count > self._staged[key]:
                shape, dtype = key
                _ = [torch.empty(shape, dtype=dtype, pin_memory=True) for _ in range(_STAGING_SETS * count)]
                self._staged[key] = count


class _UploadBuffer:
    """The images of a batch, in page-locked memory and on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staged = self._uploaded = torch.empty(0, dtype=torch.uint8)
        self._is_free = torch.cuda.Event()  # type: ignore[no-untyped-call]

    @contextmanager
    def upload(self, images: Sequence[NDArray[np.uint8]], stream: torch.cuda.Stream) -> Iterator[list[Tensor]]:
        """See :class:`Transfer`; copies in a stream, for which the current one waits."""
        computing = torch.cuda.current_stream(self._device)
        self._is_free.synchronize()  # of the batch before the last one
        *starts, size = itertools.accumulate((_aligned(image.size) for image in images), initial=0)
        if size > len(self._staged):
            self._staged = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            self._uploaded = torch.empty(size, dtype=torch.uint8, device=self._device)
            stream.wait_stream(computing)  # which may still use this memory for what it held before
        for start, image in zip(starts, images, strict=True):
            self._staged[start : start + image.size].view(image.shape).copy_(_to_tensor(image))
        with torch.cuda.stream(stream):
            self._uploaded[:size].copy_(self._staged[:size], non_blocking=True)
        computing.wait_stream(stream)
        try:
            yield [
                self._uploaded[start : start + image.size].view(image.shape).permute(2, 0, 1)
                for start, image in zip(starts, images, strict=True)
            ]
        finally:
            self._is_free.record(computing)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    writeable: NDArray[np.uint8] = np.require(image, requirements=["C", "W"])  # torch refuses other arrays, or warns
    return torch.from_numpy(writeable)
