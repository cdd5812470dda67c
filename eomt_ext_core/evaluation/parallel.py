"""One evaluation in several workers: in this process, in processes of this machine, or on a Ray cluster.

A worker keeps its frames; only counts, plans and thumbnails travel. The metrics do not depend on the workers: counts
merge exactly, and a shard of a data set computes with one CPU thread, because the last digits of a matrix product
depend on the number of threads. (They may still differ between machines with different processors.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from eomt_ext_core.errors import EomtExtError, InferenceError
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
from eomt_ext_core.evaluation.workers import Handle, open_workers
from eomt_ext_core.exits import describe_error

_POLL_S = 0.2

Progress = Callable[[int], None]


class Shard(Protocol):
    """The part of a set that one worker evaluates; it is pickled to get there."""

    def evaluate(self, should_continue: Callable[[], bool]) -> Evaluator:
        """Evaluate the frames; call ``should_continue`` after each, and return early if it is false."""
        ...


class EvaluationWorker:
    """Evaluate shards, one after the other. The methods can be called from several threads."""

    def __init__(self) -> None:
        self._evaluators: list[Evaluator] = []
        self._done = 0
        self._stopped = threading.Event()

    def evaluate(self, shards: Sequence[Shard]) -> list[FirstPass]:
        """Evaluate shards; returns the first pass of each."""
        with _sendable():
            for shard in shards:
                self._evaluators.append(shard.evaluate(self._should_continue))
        return [evaluator.first_pass() for evaluator in self._evaluators]

    def second_passes(self, plans: dict[str, SecondPlan]) -> list[SecondPass]:
        """Do the second pass of each shard with the plan of its set."""
        with _sendable():
            return [evaluator.spooled().second_pass(plans[evaluator.setup.name]) for evaluator in self._evaluators]

    def num_done(self) -> int:
        """Return the number of frames evaluated so far."""
        return self._done

    def stop(self) -> None:
        """End after the current frame."""
        self._stopped.set()

    def close(self) -> None:
        """Delete the spools."""
        for evaluator in self._evaluators:
            evaluator.close()

    def _should_continue(self) -> bool:
        self._done += 1
        return not self._stopped.is_set()


def evaluate_shards(
    shards: Sequence[Sequence[Shard]],
    *,
    ray_address: str | None = None,
    max_panels: int = MAX_PANELS,
    progress: Progress = lambda num_done: None,
) -> list[EvaluationResult]:
    """Evaluate sets, each distributed over the same workers.

    Args:
        shards: for each worker its shards, one of each set; a single worker runs in this process.
        ray_address: see :func:`open_workers`; all machines must reach the same files.
        max_panels: number of worst frames of a set with thumbnails.
        progress: called regularly with the number of frames evaluated.

    Returns:
        a result for each set, in the order of the first shard of each.

    On Ctrl-C the workers end after the current frame, and the results are those of the frames so far.
    """
    with (
        open_workers(EvaluationWorker, len(shards), ray_address) as handles,
        ThreadPoolExecutor(len(handles)) as threads,
    ):
        pairs = zip(handles, shards, strict=True)
        running = [threads.submit(handle.call, "evaluate", list(part)) for handle, part in pairs]
        try:
            _wait(running, handles, progress)
            firsts = [first for future in running for first in future.result()]
            by_set: dict[str, list[FirstPass]] = {}
            for first in firsts:
                by_set.setdefault(first.setup.name, []).append(first)
            wholes = {name: merge_first(parts) for name, parts in by_set.items()}
            plans = {name: whole.plan(max_panels) for name, whole in wholes.items()}
            futures = [threads.submit(handle.call, "second_passes", plans) for handle in handles]
            seconds = [second for future in futures for second in future.result()]
        except BaseException:
            for handle in handles:
                with suppress(EomtExtError):  # the first error is the one to report
                    handle.call("stop")
            raise
        owners = [first.setup.name for first in firsts]
        return [
            summarise(
                whole, merge_second([second for owner, second in zip(owners, seconds, strict=True) if owner == name])
            )
            for name, whole in wholes.items()
        ]


def _wait(running: Sequence[Future[Any]], handles: Sequence[Handle], progress: Progress) -> None:
    """Wait until all are done; raise the error of the first that fails."""
    pending = list(running)
    while pending:
        try:
            progress(sum(handle.call("num_done") for handle in handles))
            threading.Event().wait(_POLL_S)
        except KeyboardInterrupt:
            for handle in handles:
                handle.call("stop")
        for future in [future for future in pending if future.done()]:
            future.result()
            pending.remove(future)
    progress(sum(handle.call("num_done") for handle in handles))


@contextmanager
def _sendable() -> Iterator[None]:
    """Convert unexpected errors, some of which cannot be pickled, to ``InferenceError`` with their place."""
    try:
        yield
    except (EomtExtError, MemoryError):
        raise
    except Exception as error:
        raise InferenceError(describe_error(error)) from error
