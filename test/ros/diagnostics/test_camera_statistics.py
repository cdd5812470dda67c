"""Counts, rates and times of a camera, on a clock that the test turns."""

import sys
import threading
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.sliding_window import SlidingWindow


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def camera(clock):
    return CameraStatistics("front", clock)


def publish(camera, processing_s=0.1, latency_s=0.2, late_after_s=0.5):
    camera.published(processing_s, latency_s, late_after_s)


def test_every_image_is_counted_by_what_became_of_it(camera):
    for _ in range(7):
        camera.received()
    camera.dropped()
    camera.dropped()
    camera.skipped("not wanted")
    camera.rejected("encoding", "rgb9")
    camera.rejected("size", "too small")
    camera.failed("memory", "out of memory")
    publish(camera)
    assert camera.counts == camera.snapshot().counts
    assert camera.counts == {
        "received": 7,
        "dropped": 2,
        "skipped": 1,
        "rejected/encoding": 1,
        "rejected/size": 1,
        "failed/memory": 1,
        "published": 1,
    }


def test_a_snapshot_stays_as_it_was_taken(camera):
    snapshot = camera.snapshot()
    camera.received()
    assert snapshot.counts == {}


def test_rates_are_of_the_last_five_seconds(camera, clock):
    for turn in range(80):
        clock.now_s += 0.125
        camera.received()
        if turn % 2:
            publish(camera)
    assert (camera.snapshot().input_rate_hz, camera.snapshot().output_rate_hz) == (8, 4)
    clock.now_s += 2.5
    assert (camera.snapshot().input_rate_hz, camera.snapshot().output_rate_hz) == (4, 2)
    clock.now_s += 2.5
    assert camera.snapshot().input_rate_hz == 0


def test_rate_of_a_new_stream_ignores_the_time_before(camera, clock):
    for _ in range(20):
        clock.now_s += 0.1
        camera.received()
    assert camera.snapshot().input_rate_hz == pytest.approx(10)


def test_one_image_at_the_start_is_no_burst(camera, clock):
    clock.now_s += 0.001
    camera.received()
    assert camera.snapshot().input_rate_hz == 1


def test_the_rate_of_a_stream_faster_than_the_ring_is_right(clock):
    window = SlidingWindow(columns=0, span_s=5.0, capacity=16)
    for _ in range(1000):
        clock.now_s += 0.001
        window.add(clock.now_s)
    assert window.rate_hz(clock.now_s, since_s=100.0) == pytest.approx(1000)


def test_ages_are_since_the_newest_image(camera, clock):
    clock.now_s += 3
    snapshot = camera.snapshot()
    assert (snapshot.input_age_s, snapshot.waiting_s) == (None, 3)
    camera.received()
    clock.now_s += 2
    snapshot = camera.snapshot()
    assert (snapshot.input_age_s, snapshot.waiting_s) == (2, 2)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_percentiles_are_numpys_of_the_newest(latencies_s):
    clock = Clock()
    window = SlidingWindow(columns=2, span_s=20.0, capacity=32)
    for latency_s in latencies_s:
        clock.now_s += 1
        window.add(clock.now_s, latency_s, np.nan)
    known, unknown = window.percentiles(clock.now_s)
    assert known == pytest.approx(np.percentile(latencies_s[-20:], (50, 99)))
    assert unknown is None


def test_an_unknown_latency_is_none_and_does_not_hide_the_known(camera):
    publish(camera, processing_s=0.1, latency_s=None)
    snapshot = camera.snapshot()
    assert snapshot.latency_s is None
    assert snapshot.processing_s == (0.1, 0.1)
    publish(camera, latency_s=-0.25)
    assert camera.snapshot().latency_s == (-0.25, -0.25)


def test_late_answers_are_counted_until_one_is_in_time(camera):
    for latency_s, row in [(0.6, 1), (0.7, 2), (0.5, 0), (0.51, 1), (-3.0, 0)]:
        publish(camera, latency_s=latency_s, late_after_s=0.5)
        assert camera.snapshot().late_in_a_row == row


def test_unstamped_images_are_late_by_processing_time(camera):
    publish(camera, processing_s=0.6, latency_s=None, late_after_s=0.5)
    assert camera.snapshot().late_in_a_row == 1


def test_a_failure_stays_until_an_image_is_answered(camera):
    camera.failed("inference", "boom")
    camera.skipped("not wanted")
    camera.rejected("size", "too small")
    assert (camera.snapshot().failure, camera.snapshot().rejection) == ("boom", "too small")
    publish(camera, processing_s=0.0)
    assert (camera.snapshot().failure, camera.snapshot().rejection) == ("", "")


def test_a_rejection_is_that_of_the_newest_image(camera):
    for end in (
        lambda: camera.skipped("not wanted"),
        lambda: publish(camera, processing_s=0.0),
        lambda: camera.failed("inference", "boom"),
    ):
        camera.rejected("size", "too small")
        end()
        assert camera.snapshot().rejection == ""


def test_late_output_hides_no_newer_failure(camera, clock):
    camera.failed("inference", "boom")
    clock.now_s += 1
    publish(camera, processing_s=2.0)
    assert camera.snapshot().failure == "boom"
    publish(camera, processing_s=0.5)
    assert camera.snapshot().failure == ""
    camera.rejected("size", "too small")
    publish(camera, processing_s=2.0)
    assert camera.snapshot().rejection == "too small"


def test_an_image_is_published_while_the_next_one_is_rejected(camera, clock):
    camera.failed("memory", "out of memory")
    clock.now_s += 0.1  # the turn of the second image begins
    clock.now_s += 0.1
    camera.rejected("encoding", "rgb9")  # the third
    clock.now_s += 0.1
    publish(camera, processing_s=0.2)  # the second
    now = camera.snapshot()
    assert (now.failure, now.rejection) == ("", "rgb9"), (
        "the failure was before the second, the rejection is the newest"
    )
    camera.rejected("unhealthy", "black", taken_s=0.15)
    camera.skipped("withheld", taken_s=0.15)
    assert (camera.snapshot().rejection, camera.snapshot().skip) == ("rgb9", "")


def test_late_failure_ends_with_next_published_image(camera, clock):
    camera.failed("output", "not drawn", taken_s=2.0)
    publish(camera, processing_s=1.0)
    assert camera.snapshot().failure == ""
    camera.rejected("size", "too small")
    camera.failed("output", "not drawn", taken_s=2.0)
    assert (camera.snapshot().failure, camera.snapshot().rejection) == ("not drawn", "too small")


def test_images_that_come_in_without_an_end_are_unanswered(camera, clock):
    clock.now_s += 7
    assert camera.snapshot().unprocessed_s == 0
    for _ in range(5):
        camera.received()
        camera.dropped()
        clock.now_s += 1
    assert camera.snapshot().unprocessed_s == 5
    publish(camera)
    assert camera.snapshot().unprocessed_s == 0


def test_reason_of_a_skipped_image_lasts_until_the_next(camera):
    camera.skipped("nobody subscribes")
    assert camera.snapshot().skip == "nobody subscribes"
    camera.skipped("switched off")
    assert camera.snapshot().skip == "switched off"
    publish(camera, processing_s=0.0)
    assert camera.snapshot().skip == ""


def test_full_masks_count_from_the_first_of_them_to_the_newest(camera, clock):
    assert camera.snapshot().mask_fraction is None
    for fraction, full_mask_s in ((0.1, 0.0), (0.9, 0.0), (0.8, 1.0), (0.5, 0.0), (0.51, 0.0)):
        clock.now_s += 1
        camera.masked(fraction)
        clock.now_s += 0.25  # a stream that ends does not make it worse
        assert (camera.snapshot().mask_fraction, camera.snapshot().full_mask_s) == (
            fraction,
            full_mask_s + 0.25 * (full_mask_s > 0),
        )


def test_full_masks_around_a_pause_are_no_full_mask_between(camera, clock):
    camera.masked(0.9)
    clock.now_s += 600  # nobody subscribes, so no mask is cut
    assert camera.snapshot().full_mask_s == 0
    camera.masked(0.9)
    assert camera.snapshot().full_mask_s == 0
    clock.now_s += 1
    camera.masked(0.9)
    assert camera.snapshot().full_mask_s == 1


def test_a_restart_forgets_all_but_the_counts(camera, clock):
    camera.received()
    camera.failed("inference", "boom")
    publish(camera, latency_s=9.0)
    camera.rejected("size", "too small")
    clock.now_s += 1
    camera.restart()
    fresh = CameraStatistics("front", clock).snapshot()
    snapshot = camera.snapshot()
    assert snapshot.counts == {"received": 1, "failed/inference": 1, "published": 1, "rejected/size": 1}
    assert {**vars(snapshot), "counts": {}} == {**vars(fresh), "counts": {}}


def test_memory_does_not_grow(camera, clock):
    def work(images):
        for _ in range(images):
            clock.now_s += 0.001
            camera.received()
            publish(camera)

    work(10)
    tracemalloc.start()
    work(3000)
    grown_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown_bytes < 3000, "less than a byte for an image"


def test_threads_lose_no_count(camera):
    def work():
        for _ in range(500):
            camera.received()
            publish(camera)
            camera.snapshot()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert camera.counts == Counter(received=2000, published=2000)
