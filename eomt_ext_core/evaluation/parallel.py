"""One evaluation over several workers: in this process, in processes of this machine, or on a Ray cluster.

A worker keeps its frames and what it counted; only counts, plans and pictures travel. Where the work is done leaves no
trace in the metrics: counts merge exactly, and every worker computes with one CPU thread, because the sums inside a
matrix product are split by the number of threads, and their last digits with them. (Machines with other processors
may still differ in these digits, as their libraries do.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import active_children, get_context
from multiprocessing.managers import BaseManager
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from eomt_ext_core.errors import ConfigError, EomtExtError, InferenceError
from eomt_ext_core.evaluation.passes import (
    MAX_PANELS,
    FirstPass,
    SecondPass,
    SecondPlan,
    merge_first,
    merge_second,
    summarise,
)
from eomt_ext_core.evaluation.result import EvaluationResult
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.exits import ending, sentence

_POLL_S = 0.2
_END_TIMEOUT_S = 5.0

Progress = Callable[[int], None]


class Shard(Protocol):
    """A part of a set that one worker evaluates; it is pickled to get there."""

    def evaluate(self, go_on: Callable[[], bool]) -> Evaluator:
        """Evaluate its frames, calling ``go_on`` after each; stop early, keeping what there is, where that is False."""
        ...


class Worker:
    """Evaluates shards, one after the other, and answers for them. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._evaluators: list[Evaluator] = []
        self._done = 0
        self._stopped = threading.Event()

    def evaluate(self, shards: Sequence[Shard]) -> list[FirstPass]:
        """Evaluate shards; returns the first pass of each."""
        with _one_thread(), _sendable():
            for shard in shards:
                self._evaluators.append(shard.evaluate(self._go_on))
        return [evaluator.first_pass() for evaluator in self._evaluators]

    def second_passes(self, plans: dict[str, SecondPlan]) -> list[SecondPass]:
        """Do the second pass of each shard by the plan of its set."""
        with _sendable():
            return [evaluator.spooled().second_pass(plans[evaluator.setup.name]) for evaluator in self._evaluators]

    def num_done(self) -> int:
        """Frames evaluated so far."""
        return self._done

    def stop(self) -> None:
        """End after the frame at hand."""
        self._stopped.set()

    def close(self) -> None:
        """Delete the spools."""
        for evaluator in self._evaluators:
            evaluator.close()

    def _go_on(self) -> bool:
        self._done += 1
        return not self._stopped.is_set()


class _Handle(Protocol):
    """A worker wherever it is: its methods, called from here, waiting for the answer."""

    def call(self, method: str, *arguments: Any) -> Any: ...


def evaluate_shards(
    shards: Sequence[Sequence[Shard]],
    *,
    ray_address: str | None = None,
    max_panels: int = MAX_PANELS,
    progress: Progress = lambda num_done: None,
) -> list[EvaluationResult]:
    """Evaluate sets, each dealt out to the same workers.

    Args:
        shards: for each worker its shards, of as many sets as there are; one worker runs in this process.
        ray_address: of a Ray cluster whose machines reach the same files, ``local`` to start one here; none for
            processes of this machine.
        max_panels: how many of the worst frames of a set get pictures.
        progress: called now and then with the number of frames evaluated.

    Returns:
        a result for each set, in the order in which the shards name them first.

    On ctrl-C the workers end after the frame at hand, and what they have is evaluated.
    """
    with ExitStack() as stack:
        if ray_address is not None:
            handles = stack.enter_context(_ray_workers(len(shards), ray_address))
        elif len(shards) == 1:
            handles = [stack.enter_context(_local_worker())]
        else:
            handles = [stack.enter_context(_process_worker()) for _ in shards]
        threads = stack.enter_context(ThreadPoolExecutor(len(handles)))
        pairs = zip(handles, shards, strict=True)
        running = [threads.submit(handle.call, "evaluate", list(part)) for handle, part in pairs]
        try:
            _wait(running, handles, progress)
            firsts = [first for answer in running for first in answer.result()]
            by_set: dict[str, list[FirstPass]] = {}
            for first in firsts:
                by_set.setdefault(first.setup.name, []).append(first)
            wholes = {name: merge_first(parts) for name, parts in by_set.items()}
            plans = {name: whole.plan(max_panels) for name, whole in wholes.items()}
            answers = [threads.submit(handle.call, "second_passes", plans) for handle in handles]
            seconds = [second for answer in answers for second in answer.result()]
        except BaseException:
            for handle in handles:
                with suppress(EomtExtError):  # what went wrong first is what counts
                    handle.call("stop")
            raise
        owners = [first.setup.name for first in firsts]
        return [
            summarise(
                whole, merge_second([second for owner, second in zip(owners, seconds, strict=True) if owner == name])
            )
            for name, whole in wholes.items()
        ]


def _wait(running: Sequence[Future[Any]], handles: Sequence[_Handle], progress: Progress) -> None:
    """Return when all are done; raise what the first to fail raised."""
    pending = list(running)
    while pending:
        try:
            progress(sum(handle.call("num_done") for handle in handles))
            threading.Event().wait(_POLL_S)
        except KeyboardInterrupt:
            for handle in handles:
                handle.call("stop")
        for answer in [answer for answer in pending if answer.done()]:
            answer.result()
            pending.remove(answer)
    progress(sum(handle.call("num_done") for handle in handles))


@contextmanager
def _sendable() -> Iterator[None]:
    """Make errors of others ours, with where they arose: not all of them survive the way to another process."""
    try:
        yield
    except (EomtExtError, MemoryError):
        raise
    except Exception as error:
        raise InferenceError(sentence(error)) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _LocalHandle:
    def __init__(self) -> None:
        self.worker = Worker()

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.worker, method)(*arguments)


@contextmanager
def _local_worker() -> Iterator[_Handle]:
    handle = _LocalHandle()
    try:
        yield handle
    finally:
        handle.worker.close()


class _WorkerManager(BaseManager):
    """A process of this machine that holds a worker, with a thread for each caller."""


_WorkerManager.register("Worker", Worker)


class _ProcessHandle:
    def __init__(self, manager: _WorkerManager, process: BaseProcess) -> None:
        self._worker = manager.Worker()  # type: ignore[attr-defined]  # registered above
        self._process = process

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._worker, method)(*arguments)
        except (EOFError, ConnectionError) as error:
            self._process.join(_END_TIMEOUT_S)
            raise InferenceError(
                f"a worker process {ending(self._process.exitcode)} and answers no more: what it had done is lost"
            ) from error


@contextmanager
def _process_worker() -> Iterator[_Handle]:
    others = set(active_children())
    with _WorkerManager(ctx=get_context("spawn")) as manager:  # CUDA and fork do not go together
        (process,) = set(active_children()) - others
        handle = _ProcessHandle(manager, process)
        try:
            yield handle
        finally:
            with suppress(EomtExtError):
                handle.call("close")


class _RayHandle:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return self._ray.get(getattr(self._actor, method).remote(*arguments))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayActorError as error:
            raise InferenceError(f"a worker of the Ray cluster ended unexpectedly: {error}") from error


@contextmanager
def _ray_workers(num_workers: int, address: str) -> Iterator[list[_Handle]]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"a Ray address needs Ray: install the extra 'ray' ({error})") from error
    settings: dict[str, Any] = {"num_cpus": num_workers} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, include_dashboard=False, **settings)
    try:
        num_gpus = 1 if ray.cluster_resources().get("GPU", 0) >= num_workers else 0
        remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_concurrency=4)(Worker)
        handles: list[_Handle] = [_RayHandle(ray, remote.remote()) for _ in range(num_workers)]
        try:
            yield handles
        finally:
            for handle in handles:
                with suppress(EomtExtError):
                    handle.call("close")
    finally:
        ray.shutdown()
