"""Many bags: one after the other, over processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import Any

from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.replay.job import BagJob, BagReport
from eomt_ext_ros.replay.one_bag import Progress, replay_bag

BagDone = Callable[[BagReport], None]


def replay_bags(
    jobs: Sequence[BagJob],
    workers: int = 1,
    ray_address: str | None = None,
    progress: Progress | None = None,
    bag_done: BagDone = lambda report: None,
) -> list[BagReport]:
    """Replay bags and return a report of each, in the order of the jobs.

    Args:
        jobs: what to do; folders and bags must be reachable wherever the work is done.
        workers: processes of this machine.
        ray_address: of a Ray cluster, ``auto`` for the one at hand, ``local`` for one on this machine; it takes the
            place of ``workers``.
        progress: called after each frame, where the work is done in this process.
        bag_done: called after each bag.

    Raises:
        ConfigError: where Ray is asked for and not installed.
    """
    if ray_address is not None:
        return _over_ray(jobs, ray_address, bag_done)
    if workers > 1 and len(jobs) > 1:
        return _over_processes(jobs, workers, bag_done)
    reports = []
    for job in jobs:
        reports.append(replay_bag(job, progress or (lambda done, total: None)))
        bag_done(reports[-1])
        if reports[-1].interrupted:
            break
    return reports


@contextlib.contextmanager
def stoppable(stop_file: Path) -> Iterator[None]:
    """Answer the first SIGINT or SIGTERM with the stop file, which ends all replays after their present frame.

    A file reaches processes and machines alike. The second signal acts as it always does.
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


def _over_processes(jobs: Sequence[BagJob], workers: int, bag_done: BagDone) -> list[BagReport]:
    # CUDA does not survive a fork; the server imports torch once for all workers, and never uses it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eomt_ext_ros.replay.one_bag"])
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _ignore_interrupts) as pool:
        futures: list[Future[BagReport]] = [pool.submit(replay_bag, job) for job in jobs]
        names = dict(zip(futures, (job.name for job in jobs), strict=True))
        for future in as_completed(futures):
            bag_done(_report_of(future, names[future]))
        return [_report_of(future, names[future]) for future in futures]


def _report_of(future: Future[BagReport], name: str) -> BagReport:
    error = future.exception()
    return BagReport(name, error=f"the process ended ({error})") if error is not None else future.result()


def _ignore_interrupts() -> None:
    """In a worker: Ctrl-C reaches every process of the terminal, and the stop file says the same."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _over_ray(jobs: Sequence[BagJob], address: str, bag_done: BagDone) -> list[BagReport]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray: install the extra 'ray' ({error})") from error
    settings = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, **settings)
    try:
        first = jobs[0].config
        on_gpu = first.node.engine.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        remote = ray.remote(replay_bag).options(num_cpus=first.threads, num_gpus=int(on_gpu), max_retries=0)
        pending = {remote.remote(job): job for job in jobs}
        reports: dict[str, BagReport] = {}
        while pending:
            for reference in ray.wait(list(pending), timeout=1.0)[0]:
                job = pending.pop(reference)
                try:
                    reports[job.name] = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reports[job.name] = BagReport(job.name, error=f"the task ended ({error})")
                bag_done(reports[job.name])
    finally:
        ray.shutdown()
    return [reports[job.name] for job in jobs]
