"""Models and settings that change while the node runs."""

import threading

import pytest

pytest.importorskip("rclpy")

from eomt_ext_ros.inference.inference import Inference

TIMEOUT_S = 30.0


def test_settings_that_change_while_a_model_is_taken_up_reach_it(stand_in):
    rig = stand_in(threshold=0.5)
    rig.start()
    session, old = rig.node.session, rig.engine
    asked, may_go_on = threading.Event(), threading.Event()

    class HesitantEngine(type(old)):
        @property
        def class_names(self):
            asked.set()
            assert may_go_on.wait(TIMEOUT_S)
            return ("road", "car")

    new = HesitantEngine(rig.node.config)
    taking_up = threading.Thread(target=session.use, args=[Inference(new)])
    changing = threading.Thread(target=rig.set, kwargs={"threshold": 0.9})
    taking_up.start()
    assert asked.wait(TIMEOUT_S)
    changing.start()
    changing.join(0.2)  # it waits for the model to be taken up
    may_go_on.set()
    for thread in (taking_up, changing):
        thread.join(TIMEOUT_S)
    assert session.context.engine is new
    assert session.context.threshold == 0.9
