"""Replay of many bags: one after the other, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from eomt_ext_core.errors import InferenceError
from eomt_ext_core.evaluation.workers import Handle, open_workers
from eomt_ext_ros.replay.job import BagJob, BagReport
from eomt_ext_ros.replay.one_bag import Progress, replay_bag

BagDone = Callable[[BagReport], None]


class BagWorker:
    """Replay bags in another process or on another machine."""

    def replay(self, job: BagJob) -> BagReport:
        """Replay a bag."""
        return replay_bag(job)

    def close(self) -> None:
        """Nothing is held."""


def replay_bags(
    jobs: Sequence[BagJob],
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Progress = lambda done, total: None,
    bag_done: BagDone = lambda report: None,
) -> list[BagReport]:
    """Replay bags and return their reports, in the order of the jobs.

    Args:
        jobs: the bags; every worker must reach their files and folders.
        workers: bags at a time; by default one after the other in this process, or as many as fit on the Ray cluster.
        ray_address: see :func:`open_workers`.
        progress: called after each frame, if the bags are replayed in this process.
        bag_done: called after each bag.

    Raises:
        ConfigError: if a Ray address is given and Ray is not installed.
    """
    if ray_address is not None or min(workers or 1, len(jobs)) > 1:
        return _replay_in_workers(jobs, workers, ray_address, bag_done)
    reports = []
    for job in jobs:
        reports.append(replay_bag(job, progress))
        bag_done(reports[-1])
        if reports[-1].interrupted:
            break
    return reports


def _replay_in_workers(
    jobs: Sequence[BagJob], workers: int | None, ray_address: str | None, bag_done: BagDone
) -> list[BagReport]:
    waiting, reports = deque(jobs), {job.name: BagReport(job.name, error="no worker was left for it") for job in jobs}

    def work(handle: Handle) -> None:
        while waiting:
            job = waiting.popleft()
            try:
                reports[job.name] = handle.call("replay", job)
            except InferenceError as error:
                reports[job.name].error = str(error)
                break  # the worker has ended; the other workers replay the remaining bags
            finally:
                bag_done(reports[job.name])

    number = None if workers is None else min(workers, len(jobs))
    node, threads = jobs[0].config.node, jobs[0].config.threads
    with (
        open_workers(BagWorker, number, ray_address, threads=threads, on_gpu=node.engine.device != "cpu") as handles,
        ThreadPoolExecutor(len(handles)) as pool,
    ):
        for future in [pool.submit(work, handle) for handle in handles]:
            future.result()
    return [reports[job.name] for job in jobs]


@contextlib.contextmanager
def stoppable(stop_file: Path) -> Iterator[None]:
    """Create the stop file on the first SIGINT or SIGTERM: all replays end after their current frame.

    A file reaches processes and machines alike. The second signal has its usual effect.
    """
    stop_file.unlink(missing_ok=True)

    def stop(number: int, frame: FrameType | None) -> None:
        stop_file.touch()
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop_file.unlink(missing_ok=True)
