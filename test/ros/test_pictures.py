"""Pictures that are drawn beside the inference: no node in it."""

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header

from eomt_ext_ros.pictures import Pictures

TIMEOUT_S = 30.0
MOMENT_S = 0.2


class Reports:
    def __init__(self):
        self.told = []

    def error(self, kind, text):
        self.told.append((kind, text))


class Publisher:
    def __init__(self):
        self.frame_ids = []

    def publish(self, msg):
        self.frame_ids.append(msg.header.frame_id)


class Drawn:
    """An image whose pictures are drawn when they may be."""

    def __init__(self, may_go_on=None, failing=()):
        self.may_go_on, self.failing = may_go_on, failing

    def image(self, name):
        if self.may_go_on is not None:
            assert self.may_go_on.wait(TIMEOUT_S)
        if name in self.failing:
            raise RuntimeError("no room")
        return np.zeros((2, 3, 3), np.uint8), "rgb8"


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def publishers():
    return {"heatmap": Publisher(), "overlay": Publisher()}


@pytest.fixture
def pictures(reports):
    pictures = Pictures(2, reports)
    yield pictures
    pictures.close(TIMEOUT_S)


def in_a_thread(call, *args):
    future = Future()
    threading.Thread(target=lambda: future.set_result(call(*args)), daemon=True).start()
    return future


def test_pictures_are_published_in_the_order_of_their_images(pictures, publishers, reports):
    for number in range(5):
        pictures.show(Drawn(), ["heatmap", "overlay"], Header(frame_id=str(number)), publishers)
    assert pictures.drain(TIMEOUT_S)
    for publisher in publishers.values():
        assert publisher.frame_ids == list("01234")
    assert reports.told == []


def test_one_that_cannot_be_drawn_is_told_of_and_holds_no_other_back(pictures, publishers, reports):
    showing = pictures.show(Drawn(failing={"heatmap"}), ["heatmap", "overlay"], Header(), publishers)
    failed = showing.result(TIMEOUT_S)
    assert failed.keys() == {"heatmap"}
    assert failed["heatmap"].__traceback__ is None, "kept, it would keep the image"
    assert len(publishers["overlay"].frame_ids) == 1
    assert publishers["heatmap"].frame_ids == []
    ((kind, text),) = reports.told
    assert kind == "withheld heatmap"
    assert text.startswith("heatmap withheld: ")
    assert "RuntimeError: no room" in text


def test_the_image_after_the_most_that_wait_is_held_up_until_one_is_done(pictures, publishers):
    may_go_on = threading.Event()
    shown = [pictures.show(Drawn(may_go_on), ["overlay"], Header(), publishers) for _ in range(2)]
    third = in_a_thread(pictures.show, Drawn(), ["overlay"], Header(), publishers)
    with pytest.raises(StillWaiting):
        third.result(MOMENT_S)
    assert not pictures.drain(MOMENT_S)
    may_go_on.set()
    for showing in (*shown, third.result(TIMEOUT_S)):
        assert showing.result(TIMEOUT_S) == {}
    assert pictures.drain(TIMEOUT_S)


def test_what_is_drawn_when_it_is_closed_is_finished(reports, publishers):
    pictures = Pictures(1, reports)
    may_go_on = threading.Event()
    pictures.show(Drawn(may_go_on), ["overlay"], Header(frame_id="last"), publishers)
    threading.Timer(MOMENT_S, may_go_on.set).start()
    pictures.close(TIMEOUT_S)
    assert publishers["overlay"].frame_ids == ["last"]
    with pytest.raises(RuntimeError):
        pictures.show(Drawn(), ["overlay"], Header(), publishers)
    with pytest.raises(RuntimeError):  # and not for ever in wait of room
        pictures.show(Drawn(), ["overlay"], Header(), publishers)


def test_nothing_shown_is_nothing_to_wait_for(pictures):
    assert pictures.drain(0.0)
