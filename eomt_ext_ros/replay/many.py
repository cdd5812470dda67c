"""Many bags: one after the other, over processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.exits import ending
from eomt_ext_ros.replay.job import BagJob, BagReport
from eomt_ext_ros.replay.one_bag import Progress, replay_bag

_END_TIMEOUT_S = 5.0

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
        processes = multiprocessing.active_children()
        names = dict(zip(futures, (job.name for job in jobs), strict=True))
        for future in as_completed(futures):
            bag_done(_report_of(future, names[future], processes))
        return [_report_of(future, names[future], processes) for future in futures]


def _report_of(future: Future[BagReport], name: str, processes: Sequence[BaseProcess]) -> BagReport:
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, BrokenProcessPool):
        return BagReport(name, error=f"the process of this bag failed ({type(error).__name__}: {error})")
    for process in processes:
        process.join(_END_TIMEOUT_S)
    # the pool ends all others by SIGTERM when one is gone
    codes = {process.exitcode for process in processes}
    first = (codes - {None, 0, -signal.SIGTERM} or codes & {-signal.SIGTERM} or {None}).pop()
    return BagReport(
        name, error=f"a worker process {ending(first)}, while this bag was replayed or waited for its turn"
    )


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
