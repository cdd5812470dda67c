"""Transfers to a GPU, with stand-ins for its streams, events and memory; real ones are tested through the engine."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, HeadConfig
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


def test_a_changing_region_of_interest_takes_no_more_memory_than_one(gpu: Gpu) -> None:
    transfer = CudaTransfer(CPU)
    for rows in range(1000, 1050):
        transfer.download([torch.empty(rows, 1920), torch.empty(rows, 1920, dtype=torch.bool)])()
    before = gpu.taken[True]
    with transfer.preparing():
        pass
    assert gpu.taken[True] - before == 4 * (8 + 2) << 20, "not 50 times that, all at once"


@pytest.mark.parametrize("earlier", [[], [0], [0, 0], [4], [4, 0, 0]])
def test_what_an_image_would_wait_for_is_made_before(
    gpu: Gpu, earlier: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    transfer, results = CudaTransfer(CPU), [torch.rand(8, 8), torch.rand(8, 8)]
    for turn in earlier:
        with transfer.upload(images(turn)):
            pass

    def move() -> dict[bool, int]:
        """How many bytes more than the arrays themselves are taken for two batches on their way."""
        before = dict(gpu.taken)
        with transfer.upload(images(4)), transfer.upload(images(4)):
            transfer.download(results)()
        return {memory: gpu.taken[memory] - before[memory] for memory in before}

    with caplog.at_level(logging.INFO):
        with transfer.preparing(), transfer.upload(images(4)):
            transfer.download(results)()
        assert move() == {True: 2 * 256, False: 0}
        assert not caplog.messages
        with transfer.upload([np.zeros((40, 40, 3), np.uint8)]):
            transfer.download([torch.rand(9, 9)])()
    assert [message.partition(" of a new size was made in a frame")[0] for message in caplog.messages] == [
        "page-locked memory for uploads",
        "page-locked memory for downloads",
    ]


def test_the_pool_is_filled_again_after_a_capture_has_emptied_it(gpu: Gpu) -> None:
    transfer = CudaTransfer(CPU)
    transfer.download([torch.rand(8, 8)])()
    before = gpu.taken[True]
    with transfer.preparing():
        pass
    assert gpu.taken[True] - before == 4 * 256


def test_a_buffer_for_which_memory_is_short_stays_as_it_was(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer, empty = CudaTransfer(CPU), torch.empty

    def short(*args: Any, **kwargs: Any) -> torch.Tensor:
        if "device" in kwargs:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return empty(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", short)
        for _ in range(2):
            with pytest.raises(torch.cuda.OutOfMemoryError), transfer.upload(images(0)):
                pass
    for _ in range(2):
        with uploaded(transfer, images(0)) as found:
            np.testing.assert_array_equal(found[0], images(0)[0])


def test_images_are_uploaded_whole_in_chunks(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eomt_ext_core.engine.transfer._CHUNK", 10)
    with uploaded(CudaTransfer(CPU), images(1)) as found:
        for array, sent in zip(found, images(1), strict=True):
            np.testing.assert_array_equal(array, sent)


def test_an_engine_is_prepared_for_the_images_of_the_one_before(
    gpu: Gpu, tiny_model: Callable[..., EoMTExt], caplog: pytest.LogCaptureFixture
) -> None:
    batch = [np.random.default_rng(size).integers(0, 256, (75, size, 3), dtype=np.uint8) for size in (200, 90)]
    before, after = (AnomalyEngine(tiny_model(HeadConfig(16, 0.3, 8)), EngineConfig(device="cpu")) for _ in range(2))
    expected = before.infer_batch(batch, semantic=True)
    after._path._transfer = CudaTransfer(CPU)
    with caplog.at_level(logging.INFO):
        after.prepare(before.images_hw, semantic=True)
        frames = after.infer_batch(batch, semantic=True)
        assert not caplog.messages
        after.infer_batch(2 * batch)
    assert {message.split(" of ")[0] for message in caplog.messages} == {
        "page-locked memory for uploads",
        "page-locked memory for downloads",
    }
    for found, frame in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(found.probability, frame.probability)
        np.testing.assert_array_equal(found.semantic, frame.semantic)
    before.prepare([(75, 200)])
    assert before.images_hw == ((75, 200), (75, 90)), "of images, not of a preparation"
