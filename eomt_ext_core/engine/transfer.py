"""Images to the device and results back, while the device computes other batches."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_CHUNK = 1 << 21  # bytes that are uploaded while the host copies the next ones

_log = logging.getLogger(__name__)

Arrays = Callable[[], list[NDArray[Any]]]


class Transfer(Protocol):
    """Moves arrays between the caller and the device."""

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """Turn (H, W, 3) arrays into (3, H, W) tensors on the device, for work that is queued inside the block."""
        ...

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """Begin to turn tensors into arrays of the same shapes and types, which nothing else holds.

        Returns:
            a function that waits for the arrays and returns them.
        """
        ...

    def preparing(self) -> AbstractContextManager[None]:
        """Make memory for what is moved in the block, and has been moved before, so that no image waits for it."""
        ...


class HostTransfer:
    """Moves nothing: the CPU computes."""

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """See :class:`Transfer`; the tensors use the memory of the arrays if they can."""
        return nullcontext([_to_tensor(image).permute(2, 0, 1) for image in images])

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """See :class:`Transfer`."""
        arrays = [tensor.numpy() for tensor in tensors]
        return lambda: arrays

    def preparing(self) -> AbstractContextManager[None]:
        """See :class:`Transfer`."""
        return nullcontext()


class CudaTransfer:
    """Copies through page-locked memory, in both directions at once and beside the computation.

    Uploads and downloads have a stream each; events order them with the stream that computes. The host waits only for
    a download, and for an upload buffer if more than ``IN_FLIGHT`` batches are submitted.

    Upload buffers grow to the largest batch. Downloaded arrays lie in blocks of torch's page-locked pool, which get
    free when the caller drops the arrays; blocks have sizes of powers of two, so arrays of similar sizes share them.
    The first download that needs more blocks of a size fills the pool, and later ones allocate nothing unless the
    caller holds more than ``_STAGING_SETS`` of them. The log says if an image had to wait for that. Torch empties the
    pool when it captures a graph: ``preparing`` fills it again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._upload_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._download_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers = [_UploadBuffer(device) for _ in range(IN_FLIGHT)]
        self._turns = itertools.cycle(self._buffers)
        self._staged: Counter[int] = Counter()  # blocks that a batch needs, by their bytes
        self._is_preparing = False

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> AbstractContextManager[list[Tensor]]:
        """See :class:`Transfer`; returns before the copy is done."""
        buffer, sizes = next(self._turns), [image.size for image in images]
        small = [each for each in (self._buffers if self._is_preparing else [buffer]) if each.is_too_small(sizes)]
        if small:
            with self._making("uploads"):
                for each in small:
                    each.grow(sizes, self._upload_stream)
        return buffer.upload(images, self._upload_stream)

    def download(self, tensors: Sequence[Tensor]) -> Arrays:
        """See :class:`Transfer`."""
        self._stage(tensors)
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

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """See :class:`Transfer`."""
        self._is_preparing = True
        try:
            self._fill_pool(self._staged)
            yield
        finally:
            self._is_preparing = False

    @contextmanager
    def _making(self, what: str) -> Iterator[None]:
        """Say in the log if an image waits for memory that is made in the block."""
        began_s = time.perf_counter()
        yield
        if not self._is_preparing:
            waited_ms = 1000 * (time.perf_counter() - began_s)
            _log.info("page-locked memory for %s of a new size was made in a frame: %.0f ms", what, waited_ms)

    def _stage(self, tensors: Sequence[Tensor]) -> None:
        """Have as many page-locked blocks for these as can be in use at a time."""
        wanted = Counter(_block_bytes(tensor) for tensor in tensors)
        new = Counter({size: count for size, count in wanted.items() if count > self._staged[size]})
        if new:
            with self._making("downloads"):
                self._fill_pool(new)
            self._staged |= new

    @staticmethod
    def _fill_pool(counts: Mapping[int, int]) -> None:
        _ = [
            torch.empty(size, dtype=torch.uint8, pin_memory=True)
            for size, count in counts.items()
            for _ in range(_STAGING_SETS * count)
        ]


class _UploadBuffer:
    """The images of a batch, in page-locked memory and on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staged = self._uploaded = torch.empty(0, dtype=torch.uint8)
        self._is_free = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def is_too_small(self, sizes: Sequence[int]) -> bool:
        """Whether it has to grow for images of so many bytes."""
        return sum(map(_aligned, sizes)) > len(self._staged)

    def grow(self, sizes: Sequence[int], stream: torch.cuda.Stream) -> None:
        """Take memory for images of so many bytes, which are to be copied in a stream."""
        self._is_free.synchronize()
        size = sum(map(_aligned, sizes))
        staged = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        uploaded = torch.empty(size, dtype=torch.uint8, device=self._device)
        self._staged, self._uploaded = staged, uploaded  # both or none, if memory is short
        stream.wait_stream(torch.cuda.current_stream(self._device))  # which may still use it for what it held before

    @contextmanager
    def upload(self, images: Sequence[NDArray[np.uint8]], stream: torch.cuda.Stream) -> Iterator[list[Tensor]]:
        """See :class:`Transfer`; copies in a stream, for which the current one waits."""
        computing = torch.cuda.current_stream(self._device)
        self._is_free.synchronize()  # of the batch before the last one
        starts = list(itertools.accumulate((_aligned(image.size) for image in images), initial=0))[:-1]
        for start, image in zip(starts, images, strict=True):
            for first, chunk in enumerate(torch.split(_to_tensor(image).view(-1), _CHUNK)):
                place = slice(start + first * _CHUNK, start + first * _CHUNK + len(chunk))
                self._staged[place].copy_(chunk)
                with torch.cuda.stream(stream):
                    self._uploaded[place].copy_(self._staged[place], non_blocking=True)
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


def _block_bytes(tensor: Tensor) -> int:
    """Bytes of the block that torch's page-locked pool takes for a copy: the next power of two."""
    return 1 << max(0, tensor.numel() * tensor.element_size() - 1).bit_length()


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    writeable: NDArray[np.uint8] = np.require(image, requirements=["C", "W"])  # torch refuses other arrays, or warns
    return torch.from_numpy(writeable)
