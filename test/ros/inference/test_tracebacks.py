"""Exceptions that are kept, and what they keep: no ROS in it."""

import gc
import traceback
import weakref

import numpy as np
import pytest

from eomt_ext_ros.inference.tracebacks import clear_traceback_locals, drop_tracebacks


@pytest.fixture(autouse=True)
def _no_collector():
    """What is gone went with its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chained():
    """An error with a cause and, behind it, a context; and what the function of each held."""
    held = []

    def innermost():
        pixels = np.zeros(3)
        held.append(weakref.ref(pixels))
        raise KeyError("innermost")

    def middle():
        pixels = np.zeros(3)
        held.append(weakref.ref(pixels))
        try:
            innermost()
        except KeyError:
            raise ValueError("middle")  # noqa: B904

    def outer():
        pixels = np.zeros(3)
        held.append(weakref.ref(pixels))
        try:
            middle()
        except ValueError as error:
            raise RuntimeError("outer") from error

    try:
        outer()
    except RuntimeError as error:
        return error, held


def alive(held):
    return [reference() is not None for reference in held]


def test_exception_holds_the_locals_of_its_frames():
    error, held = chained()
    assert alive(held) == [True] * 3
    del error


def test_forgotten_frames_hold_nothing_and_the_chain_is_still_there():
    error, held = chained()
    drop_tracebacks(error)
    assert alive(held) == [False] * 3
    assert (str(error), str(error.__cause__)) == ("outer", "middle")
    assert error.__traceback__ is None


def test_emptied_frames_hold_nothing_and_still_tell_where():
    error, held = chained()
    clear_traceback_locals(error)
    assert alive(held) == [False] * 3
    told = "".join(traceback.format_exception(error))
    assert all(f"in {name}" in told for name in ("innermost", "middle", "outer"))


def test_a_chain_that_is_a_ring_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    drop_tracebacks(first)
    clear_traceback_locals(first)
