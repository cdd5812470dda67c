"""A node under test and a client beside it, over real DDS, in one executor that the test itself turns."""

import functools
import gc
import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from eomt_ext_ros.process.dds_profile import profile_environment

collect_ignore = ["launch_service.py"]  # a program of its own, which needs the real launch

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


@pytest.fixture(scope="session")
def tiny_normality(tiny_model, tmp_path_factory):
    """A normality file of the tiny model, learnt from dark noise."""
    import cv2
    from typer.testing import CliRunner

    from eomt_ext_core.cli import app

    folder = tmp_path_factory.mktemp("drive")
    for number in range(40):
        dark = np.random.default_rng(number).integers(0, 60, (48, 80, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), dark)
    path = folder.with_name("normal.safetensors")
    options = ["--output", str(path), "--device", "cpu", "--held-out", "0.5"]
    result = CliRunner().invoke(app, ["learn-normal", str(folder), "--checkpoint", str(tiny_model), *options])
    assert result.exit_code == 0, result.output
    return path


# By which users choose their distribution, middleware and its profile.
DDS_VARIABLES = (
    "ROS_DISTRO",
    "RMW_IMPLEMENTATION",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
    "ROS_LOCALHOST_ONLY",
    "RMW_FASTRTPS_PUBLICATION_MODE",
)


@pytest.fixture
def nothing_chosen(monkeypatch):
    """The environment of a user who chose no distribution and no middleware."""
    for name in DDS_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def launch_stand_in(monkeypatch, nothing_chosen):
    """The stand-in for launch and launch_ros in their places."""
    path = Path(__file__).with_name("launch_stand_in.py")
    spec = importlib.util.spec_from_file_location("launch_stand_in", path)
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return stand_in


@pytest.fixture(scope="module")
def context():
    rclpy = pytest.importorskip("rclpy")
    # A lifecycle node lies in cycles: destroyed or not, it stays in the graph, under the name of those to come, until
    # it is collected. pytest holds the fixtures of a module's last test until the module is over.
    gc.collect()
    context = rclpy.context.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def make_rig(context, tiny_model):
    """Build rigs; each ends with the test."""
    rigs = []

    def make(engine_factory=None, **parameters):
        kwargs = {"engine_factory": engine_factory} if engine_factory else {}
        # No camera is well that sends noise, or one image again and again.
        defaults = {"checkpoint": str(tiny_model), "device": "cpu", "health__enabled": False}
        rigs.append(Rig(context, defaults | parameters, **kwargs))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig):
    """A rig with default parameters."""
    return make_rig()


class StandInEngine:
    """Says of every pixel that it is as anomalous as it is red. Can be held back, and fails as it is told."""

    crop_hw = (32, 64)
    class_names = ("road", "car")
    has_semantic = True
    fitting_windows = None
    most_in_flight = 1
    images_hw = ()

    def __init__(self, config):
        self.refused_scores, self.config = set(), config.engine
        self.batches, self.failures, self.freed = [], [], 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def checked(self, config):
        from eomt_ext_core import ConfigError

        if config.score in self.refused_scores:
            raise ConfigError(f"score {config.score!r} needs what this model lacks")
        return config

    def threshold_of(self, config):
        return 0.5 if config.threshold < 0 else config.threshold

    def batch_windows_of(self, config):
        return config.batch_windows

    def submit(self, images_rgb, *, parts, config):
        return self.infer_batch(images_rgb, semantic="semantic" in parts, config=config)

    def collect(self, batch):
        return batch

    def infer_batch(self, images_rgb, *, semantic, config):
        from eomt_ext_core import AnomalyFrame

        assert self.has_semantic or not semantic
        self.config = config  # what it ran under last
        threshold = self.threshold_of(config)
        self.batches.append(len(images_rgb))
        assert self.may_go_on.wait(TIMEOUT_S)
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        frames = []
        for image in images_rgb:
            probability = image[..., 0].astype(np.float32) / 255
            classes = image[..., 1] // 128 if semantic else None
            frames.append(AnomalyFrame(probability, probability > threshold, classes))
        return frames

    def is_warm(self, config, *, semantic):
        return True

    def prepare(self, images_hw, *, semantic, config):
        self.prepared = (images_hw, semantic)

    def free_memory(self):
        self.freed += 1

    def describe(self, config):
        return {"device": "cpu", "device_name": "stand-in"}


@pytest.fixture
def stand_in(make_rig):
    """Build rigs whose engine is a stand-in."""
    return functools.partial(make_rig, engine_factory=StandInEngine)


class DeviceEngine(StandInEngine):
    """Computes beside the node, as a GPU does: a batch can be collected when that is allowed."""

    most_in_flight = 2

    def __init__(self, config):
        super().__init__(config)
        self.on_device = self.most_on_device = 0
        self.may_arrive = threading.Semaphore(0)

    def submit(self, images_rgb, *, parts, config):
        frames = super().submit(images_rgb, parts=parts, config=config)
        self.on_device += 1
        self.most_on_device = max(self.on_device, self.most_on_device)
        return frames

    def collect(self, batch):
        assert self.may_arrive.acquire(timeout=TIMEOUT_S)
        self.on_device -= 1
        return batch


@pytest.fixture
def on_device(make_rig):
    """Build rigs whose engine is a stand-in that computes beside the node."""
    return functools.partial(make_rig, engine_factory=DeviceEngine)


@pytest.fixture
def may_draw(monkeypatch):
    """Overlays are drawn when this is set, in the end at the latest."""
    from eomt_ext_ros.outputs import rendering

    may_draw, draw = threading.Event(), rendering.blend
    monkeypatch.setattr(rendering, "blend", lambda *args: may_draw.wait(TIMEOUT_S) and draw(*args))
    yield may_draw
    may_draw.set()


def topic_prefix(camera):
    return f"/eomt_ext/{camera}/" if camera else "/eomt_ext/"


class Listener:
    """What came in on a topic."""

    def __init__(self, client, kind, topic, depth=100):
        self.messages = []
        self.subscription = client.create_subscription(kind, topic, self.messages.append, depth)


class Caller:
    """Calls the services of the node ``<prefix>``, in this process or another one."""

    def __init__(self, context, prefix="/eomt_ext/", timeout_s=TIMEOUT_S):
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.prefix, self.timeout_s = prefix, timeout_s
        self.client = Node("client", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.client)
        self.services = {}

    def spin_until(self, condition, what):
        deadline = time.monotonic() + self.timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {self.timeout_s} s for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind, service, request):
        if service not in self.services:
            self.services[service] = self.client.create_client(kind, self.prefix + service)
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

    def set(self, **parameters):
        """Set parameters; the reasons where some were refused, else nothing."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request()
        for name, value in parameters.items():
            request.parameters.append(Parameter(name.replace("__", "."), value=value).to_parameter_msg())
        results = self.call(SetParameters, "set_parameters", request).results
        return "; ".join(result.reason for result in results if not result.successful)

    def close(self):
        self.executor.shutdown()
        self.client.destroy_node()


@pytest.fixture
def make_caller(context):
    """Build callers; each ends with the test."""
    callers = []

    def make(*args, **kwargs):
        callers.append(Caller(context, *args, **kwargs))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


class Rig(Caller):
    """The node, unconfigured, and a client that publishes to it, listens to it and calls its services."""

    def __init__(self, context, parameters, **kwargs):
        from rclpy.parameter import Parameter

        from eomt_ext_ros.node import AnomalyNode

        super().__init__(context)
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        try:
            self.node = AnomalyNode(context=context, parameter_overrides=overrides, **kwargs)
        except BaseException:
            super().close()
            raise
        self.executor.add_node(self.node)
        self.publishers = {}
        for camera in self.node.config.cameras or ("",):
            self.connect(camera)
        self.heard = {}

    def connect(self, camera=""):
        """Be this camera: publish its images and calibration."""
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image

        compressed = self.node.config.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        prefix = topic_prefix(camera) + "input/"
        self.publishers[camera] = (
            self.client.create_publisher(kind, prefix + topic, qos_profile_sensor_data),
            self.client.create_publisher(CameraInfo, prefix + "camera_info", 1),
        )

    def disconnect(self, camera=""):
        """Let this camera die."""
        for publisher in self.publishers.pop(camera):
            self.client.destroy_publisher(publisher)

    def start(self, *outputs):
        """Configure, activate, subscribe to these outputs, and wait until everybody has found everybody."""
        from rclpy.lifecycle import TransitionCallbackReturn

        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        for camera in self.cameras:
            for name in outputs:
                self.listen(name, camera)
        self._find_inputs()

    def settle(self):
        """Deactivate and activate: no image sent before is worked on afterwards."""
        from rclpy.lifecycle import TransitionCallbackReturn

        assert self.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        images = self.publishers[""][0]
        self.spin_until(lambda: not images.get_subscription_count(), "the old subscription to be gone")
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self._find_inputs()

    def _find_inputs(self):
        every = [publisher for pair in self.publishers.values() for publisher in pair]
        self.spin_until(lambda: all(publisher.get_subscription_count() for publisher in every), "discovery")

    def listen(self, name, camera=""):
        from eomt_ext_ros.messages.installed import installed_type
        from eomt_ext_ros.outputs.registry import OUTPUTS

        key = f"{camera}/{name}" if camera else name
        kind = next(installed_type(output.message_type) for output in OUTPUTS if output.name == name)
        self.heard[key] = Listener(self.client, kind, f"{topic_prefix(camera)}output/{name}")
        publisher = self.cameras[camera].publishers[name]
        self.spin_until(publisher.get_subscription_count, f"discovery of {key}")

    def messages(self, key):
        """What came in on an output, ``<name>`` or ``<camera>/<name>``."""
        return self.heard[key].messages

    def send(self, msg, camera=""):
        """Publish an image and wait until the node has it; without that, best effort may drop any of a burst."""
        before = self.node.counts["received"]
        self.publishers[camera][0].publish(msg)
        self.spin_until(lambda: self.node.counts["received"] > before, "the node to receive an image")

    def hold_one_and_let_one_wait(self, held, waiting):
        """Send two images; the stand-in works on the first until ``engine.may_go_on`` is set."""
        self.engine.may_go_on.clear()
        self.send(held)
        self.spin_until(lambda: self.engine.batches, "the first image to be worked on")
        self.send(waiting)

    def send_camera_info(self, msg, camera=""):
        self.cameras[camera].info = None
        self.publishers[camera][1].publish(msg)
        self.spin_until(lambda: self.cameras[camera].info is not None, "the node to receive a camera_info")

    def answer(self, msg, name="probability", camera=""):
        """Send an image; returns the output that answers it, once that is counted. Visualisations may follow."""
        key = f"{camera}/{name}" if camera else name
        before, published = len(self.messages(key)), self.node.counts["published"]
        self.send(msg, camera)
        self.spin_until(lambda: len(self.messages(key)) > before, f"an answer on {key}")
        self.spin_until_counted("published", published + 1)
        return self.messages(key)[-1]

    def spin_until_counted(self, what, count=1):
        self.spin_until(
            lambda: self.node.counts[what] >= count, f"{count} {what}, counted are {dict(self.node.counts)}"
        )

    @property
    def cameras(self):
        """Those of a configured node, by name."""
        return {} if self.node.session is None else self.node.session.cameras

    @property
    def engine(self):
        """The engine of a configured node."""
        return self.node.session.context.engine

    @property
    def engine_config(self):
        """What the engine runs under."""
        return self.node.session.context.config.engine

    def stamped(self, msg):
        """The message with the stamp of now."""
        msg.header.stamp = self.node.get_clock().now().to_msg()
        return msg

    def diagnostics(self):
        """The statuses of now, by what follows the node's name."""
        from diagnostic_msgs.msg import DiagnosticArray

        from eomt_ext_ros.pipeline.camera import stamp_ns

        if "diagnostics" not in self.heard:
            self.heard["diagnostics"] = Listener(self.client, DiagnosticArray, "/diagnostics")
            self.spin_until(lambda: self.client.count_publishers("/diagnostics"), "the node to advertise diagnostics")
        heard = self.messages("diagnostics")
        asked = self.stamped(DiagnosticArray()).header.stamp
        self.node.diagnostics.publish()
        self.spin_until(lambda: any(stamp_ns(msg.header.stamp) >= stamp_ns(asked) for msg in heard[-1:]), "diagnostics")
        return {status.name.partition(": ")[2]: status for status in heard[-1].status}

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        super().close()


@pytest.fixture
def image_msg():
    """Build image messages, each from a seed: 48×80 rgb8 of smooth noise, stamped with the seed."""
    pytest.importorskip("sensor_msgs")
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from eomt_ext_ros.messages.images import to_image_msg

    def build(seed, frame_id="camera_optical"):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 80, 3), np.uint8)
        return to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1000, nanosec=seed), frame_id=frame_id))

    return build


@pytest.fixture
def engine(tiny_model):
    """An engine of the same model, beside ROS."""
    from eomt_ext_core import AnomalyEngine, EngineConfig, load_model

    return AnomalyEngine(load_model(tiny_model), EngineConfig(device="cpu"))
