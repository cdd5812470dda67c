"""A node under test and a client beside it, over real DDS, in one executor that the test itself turns."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from eomt_ext_ros.dds_profile import profile_environment

# A domain of our own, so that test runs side by side do not hear each other; processes that tests start inherit it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
# The model is tiny: more threads would only wait for each other where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The profile that the package ships, unless another one is being tried.
os.environ.update(profile_environment(os.environ, Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"))

TIMEOUT_S = 30.0  # of what should take milliseconds: the machine may be busy


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A random model that answers in milliseconds, as a file."""
    import torch

    from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig, save_model

    torch.manual_seed(0)
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    config = ModelConfig(
        "vit_small_patch14_reg4_dinov2",
        (32, 64),
        num_queries=5,
        num_classes=4,
        num_blocks=2,
        backbone_overrides=overrides,
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(EoMTExt(config, HeadConfig(hidden_dim=8)), path)
    return path


@pytest.fixture
def context():
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.context.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def make_rig(context, tiny_model):
    """Build rigs; each ends with the test."""
    rigs = []

    def make(**parameters):
        rigs.append(Rig(context, {"checkpoint": str(tiny_model), "device": "cpu"} | parameters))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig):
    """A rig with default parameters."""
    return make_rig()


class Listener:
    """What came in on a topic."""

    def __init__(self, client, kind, topic, depth=100):
        self.messages = []
        self.subscription = client.create_subscription(kind, topic, self.messages.append, depth)


class Rig:
    """The node, unconfigured, and a client that publishes to it, listens to it and calls its services."""

    def __init__(self, context, parameters):
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.parameter import Parameter
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, Image

        from eomt_ext_ros.node import AnomalyNode

        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        self.node = AnomalyNode(context=context, parameter_overrides=overrides)
        self.client = Node("client", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.client)
        self.images = self.client.create_publisher(Image, "/eomt_ext/input/image", qos_profile_sensor_data)
        self.camera_infos = self.client.create_publisher(CameraInfo, "/eomt_ext/input/camera_info", 1)
        self.heard = {}
        self.services = {}

    def spin_until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_S} s for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def start(self, *outputs):
        """Configure, activate, subscribe to these outputs, and wait until everybody has found everybody."""
        from rclpy.lifecycle import TransitionCallbackReturn

        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        for name in outputs:
            self.listen(name)
        self._find_inputs()

    def settle(self):
        """Deactivate and activate: no image sent before is worked on afterwards."""
        from rclpy.lifecycle import TransitionCallbackReturn

        assert self.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        self.spin_until(lambda: not self.images.get_subscription_count(), "the old subscription to be gone")
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self._find_inputs()

    def _find_inputs(self):
        both = (self.images, self.camera_infos)
        self.spin_until(lambda: all(publisher.get_subscription_count() for publisher in both), "discovery")

    def listen(self, name):
        from sensor_msgs.msg import CameraInfo, Image

        kind = CameraInfo if name == "camera_info" else Image
        self.heard[name] = Listener(self.client, kind, f"/eomt_ext/output/{name}")
        self.spin_until(lambda: self.node._outputs[name].get_subscription_count(), f"discovery of {name}")

    def messages(self, name):
        return self.heard[name].messages

    def send(self, msg):
        """Publish an image and wait until the node has it; without that, best effort may drop any of a burst."""
        before = self.node.counts["received"]
        self.images.publish(msg)
        self.spin_until(lambda: self.node.counts["received"] > before, "the node to receive an image")

    def send_camera_info(self, msg):
        self.node._camera_info = None
        self.camera_infos.publish(msg)
        self.spin_until(lambda: self.node._camera_info is not None, "the node to receive a camera_info")

    def answer(self, msg, name="probability"):
        """Send an image and return the output that answers it, once the node has published all that belongs to it."""
        before, published = len(self.messages(name)), self.node.counts["published"]
        self.send(msg)
        self.spin_until(lambda: len(self.messages(name)) > before, f"an answer on {name}")
        self.spin_until_counted("published", published + 1)
        return self.messages(name)[-1]

    def spin_until_counted(self, what, count=1):
        self.spin_until(
            lambda: self.node.counts[what] >= count, f"{count} {what}, counted are {dict(self.node.counts)}"
        )

    def call(self, kind, service, request):
        """Call a service of the node as another process would."""
        if service not in self.services:
            self.services[service] = self.client.create_client(kind, f"/eomt_ext/{service}")
        self.spin_until(self.services[service].service_is_ready, service)
        future = self.services[service].call_async(request)
        self.spin_until(future.done, f"the answer of {service}")
        return future.result()

    def change_state(self, label):
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(label=label))).success

    @property
    def state(self):
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.client.destroy_node()


@pytest.fixture
def image_msg():
    """Build image messages, each from a seed: 48×80 rgb8 of smooth noise, stamped with the seed."""
    pytest.importorskip("sensor_msgs")
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from eomt_ext_ros.images import to_image_msg

    def build(seed, frame_id="camera_optical"):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 80, 3), np.uint8)
        return to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1000, nanosec=seed), frame_id=frame_id))

    return build


@pytest.fixture
def engine(tiny_model):
    """An engine of the same model, beside ROS."""
    from eomt_ext_core import AnomalyEngine, EngineConfig, load_model

    return AnomalyEngine(load_model(tiny_model), EngineConfig(device="cpu"))
