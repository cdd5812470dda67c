"""Waiting for the node's threads in short steps, as the process may be told to end meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from rclpy.executors import ExternalShutdownException

Result = TypeVar("Result")

STEP_S = 0.02
CONTEXT_END_TIMEOUT_S = 0.3  # after the signal for it


def result_of(job: Future[Result], context: Any, meanwhile: Callable[[], None]) -> Result:
    """Wait for the result of a job; ``meanwhile`` is called now and then.

    Raises:
        ExternalShutdownException: if the ROS context ends first.
        Exception: what the job raised.
    """
    while not job.done():
        wait([job], STEP_S)
        if not context.ok():
            raise ExternalShutdownException
        meanwhile()
    return job.result()


def finish_within(
    timeout_s: float, finish: Callable[[float], bool], context: Any, meanwhile: Callable[[], None]
) -> None:
    """Call ``finish`` with a timeout in seconds until it is true, and ``meanwhile`` now and then.

    Raises:
        RuntimeError: if that takes too long, or the ROS context ends first.
    """
    deadline_s = time.monotonic() + timeout_s
    while not finish(min(STEP_S, timeout_s)):
        if time.monotonic() > deadline_s or not context.ok():
            raise RuntimeError(f"inference or visualisation did not end within {timeout_s:.0f} s")
        meanwhile()


def context_ends(is_ok: Callable[[], bool]) -> bool:
    """Whether a context has ended, or does so in a moment; ``is_ok`` says that it has not.

    On SIGINT Python raises at once, which becomes a ``RuntimeError`` while rclpy converts a message; a thread of ROS's
    own ends the context a little later.
    """
    until_s = time.monotonic() + CONTEXT_END_TIMEOUT_S
    while is_ok() and time.monotonic() < until_s:
        time.sleep(0.01)
    return not is_ok()
