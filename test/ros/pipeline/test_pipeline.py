"""Models and settings that change hands while the node runs: no messages in it."""

import threading

import pytest

pytest.importorskip("rclpy")

from eomt_ext_core.config import EngineConfig
from eomt_ext_ros.inference.inference import Inference
from eomt_ext_ros.parameters.node_config import CameraConfig, NodeConfig
from eomt_ext_ros.parameters.settings import Settings
from eomt_ext_ros.pipeline.pipeline import Pipeline

TIMEOUT_S = 30.0


class HesitantEngine:
    """Is held against the settings for as long as it is told to."""

    crop_hw, has_semantic, fitting_windows = (32, 64), True, None

    def __init__(self):
        self.asked, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    @property
    def class_names(self):
        self.asked.set()
        assert self.may_go_on.wait(TIMEOUT_S)
        return ("road", "car")

    def checked(self, config):
        return config

    def threshold_of(self, config):
        return config.threshold


def settings(**engine):
    return Settings(NodeConfig(engine=EngineConfig(**engine)), {"": CameraConfig()})


def test_settings_that_change_while_a_model_is_taken_up_reach_it():
    before, after = settings(), settings(threshold=0.9)
    pipeline = Pipeline({}, Inference(HesitantEngine()), before, reports=None)
    new = HesitantEngine()
    new.may_go_on.clear()
    taking_up = threading.Thread(target=pipeline.use, args=[Inference(new)])
    changing = threading.Thread(target=pipeline.apply, args=[after])
    taking_up.start()
    assert new.asked.wait(TIMEOUT_S)
    changing.start()
    changing.join(0.2)  # where it waits for the model to be taken up, it waits on
    new.may_go_on.set()
    for thread in (taking_up, changing):
        thread.join(TIMEOUT_S)
    assert pipeline.inference.engine is new
    assert pipeline.threshold == after.node.engine.threshold
    assert pipeline.picture_thread.stop(TIMEOUT_S)
