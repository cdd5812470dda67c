"""Transfers to a GPU, with stand-ins for its streams, events and memory; real ones are tested through the engine."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eomt_ext_core.engine.transfer import CudaTransfer, HostTransfer

CPU = torch.device("cpu")
SIZES = [[(4, 6)], [(5, 7), (3, 3)], [(4, 6)], [(2, 2)], [(9, 7), (3, 3)]]


class Gpu:
    """Notes what is waited for, and how many bytes are taken of each memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.taken = {True: 0, False: 0}  # page-locked, or on the device
        gpu, empty = self, torch.empty
        count = iter(range(1000))

        class Event:
            def __init__(self) -> None:
                self.name = f"event {next(count)}"

            def record(self, stream: Any) -> None:
                gpu.log.append(f"{stream.name} records {self.name}")

            def synchronize(self) -> None:
                gpu.log.append(f"host waits for {self.name}")

        class Stream:
            def __init__(self, device: Any, name: str = "") -> None:
                self.name = name or f"stream {next(count)}"

            def wait_stream(self, other: Any) -> None:
                gpu.log.append(f"{self.name} waits for {other.name}")

        def measured(*args: Any, pin_memory: bool = False, device: Any = None, **kwargs: Any) -> torch.Tensor:
            tensor = empty(*args, **kwargs)
            if pin_memory or device is not None:
                gpu.taken[pin_memory] += tensor.numel() * tensor.element_size()
            return tensor

        computing = Stream(None, "computing")
        monkeypatch.setattr(torch, "empty", measured)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def images(turn: int) -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(turn).integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES[turn]]


@contextmanager
def uploaded(transfer: Any, batch: list[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    with transfer.upload(batch) as tensors:
        yield [tensor.permute(1, 2, 0).numpy() for tensor in tensors]


@pytest.mark.parametrize("kind", [HostTransfer, lambda: CudaTransfer(CPU)], ids=["cpu", "gpu"])
def test_images_arrive_whole_and_two_batches_do_not_share_memory(gpu: Gpu, kind: Any) -> None:
    transfer = kind()
    for turn in range(len(SIZES) - 1):
        with uploaded(transfer, images(turn)) as first, uploaded(transfer, images(turn + 1)) as second:
            for found, sent in zip(first + second, images(turn) + images(turn + 1), strict=True):
                np.testing.assert_array_equal(found, sent)


@pytest.mark.parametrize("kind", [HostTransfer, lambda: CudaTransfer(CPU)], ids=["cpu", "gpu"])
def test_results_come_back_in_order_with_their_types(gpu: Gpu, kind: Any) -> None:
    transfer, sent = kind(), [torch.rand(3, 4), torch.ones(2, dtype=torch.bool), torch.tensor(2.5)]
    first, second = transfer.download(sent), transfer.download([sent[0] + 1])
    for found, tensor in zip(first() + second(), [*sent, sent[0] + 1], strict=True):
        np.testing.assert_array_equal(found, tensor.numpy())
        assert found.dtype == tensor.numpy().dtype


def test_upload_memory_is_taken_once_for_the_largest_batch(gpu: Gpu) -> None:
    transfer = CudaTransfer(CPU)
    for turn in [4, 4, *range(5), *range(5)]:
        with transfer.upload(images(turn)):
            pass
        if turn == 4:
            taken = dict(gpu.taken)
    assert gpu.taken == taken == {True: 2 * 1024, False: 2 * 1024}


def test_memory_of_an_upload_is_written_when_its_last_batch_is_cut(gpu: Gpu) -> None:
    transfer = CudaTransfer(CPU)
    for turn in (4, 4, 0, 0, 0):
        gpu.log.append("submit")
        with transfer.upload(images(turn)):
            gpu.log.append("cut")
    submissions = [part.split("\n") for part in "\n".join(gpu.log).split("submit\n")[1:]]
    recorded = [submission[submission.index("cut") + 1] for submission in submissions]
    for submission, two_before in zip(submissions[2:], recorded, strict=False):
        event = two_before.partition(" records ")[2]
        assert submission[0] == f"host waits for {event}"
        assert submission[1].startswith("computing waits for "), "before it cuts"
        assert submission[2] == "cut"
    for submission in submissions[:2]:
        assert submission[1].endswith(" waits for computing"), "fresh memory may be in use still"


def test_a_download_waits_for_its_results_and_the_host_for_the_download(gpu: Gpu) -> None:
    arrays = CudaTransfer(CPU).download([torch.rand(2)])
    waits, records = gpu.log
    assert waits.endswith(" waits for computing")
    event = records.partition(" records ")[2]
    assert records.startswith(waits.partition(" waits ")[0])
    arrays()
    assert gpu.log[2:] == [f"host waits for {event}"]


def test_page_locked_memory_is_made_when_a_shape_is_new(gpu: Gpu) -> None:
    transfer = CudaTransfer(CPU)
    taken = []
    for count in (1, 1, 2, 2, 1):
        before = gpu.taken[True]
        transfer.download([torch.rand(8, 8)] * count)()
        taken.append((gpu.taken[True] - before) // 256 - count)
    assert taken == [4, 0, 8, 0, 0], "four of each at a time: the pool has them from then on"
