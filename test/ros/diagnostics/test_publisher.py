"""Diagnostics on the wire: what another process reads on /diagnostics, over real DDS."""

import time

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Empty

from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.publisher import Diagnostics, gpu_memory, input_topic, type_name
from eomt_ext_ros.diagnostics.status import NodeSnapshot
from eomt_ext_ros.parameters.node_config import DiagnosticsConfig

RELIABLE = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def pair(context):
    """Two nodes and a function that turns them until something holds."""
    nodes = [Node(name, namespace="/vehicle", context=context) for name in ("watched", "watching")]
    executor = SingleThreadedExecutor(context=context)
    for node in nodes:
        executor.add_node(node)

    def until(condition, timeout_s=30.0):
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s
            executor.spin_once(timeout_sec=0.02)

    yield *nodes, until
    executor.shutdown()
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def other_process():
    """A node as in another process: a DDS participant has one type for a topic."""
    context = Context()
    context.init()
    node = Node("driver", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def seen_publishers(node, subscription, until, count):
    until(lambda: len(input_topic(node, subscription).publishers) == count)
    return input_topic(node, subscription)


def test_a_silent_topic_is_described_as_it_is(pair):
    watched, watching, until = pair
    subscription = watched.create_subscription(Empty, "image", lambda msg: None, RELIABLE)
    topic = seen_publishers(watched, subscription, until, 0)
    assert (topic.name, topic.qos, topic.publishers) == ("/vehicle/image", "reliable, volatile", ())
    watching.create_publisher(Empty, "image", BEST_EFFORT)
    (publisher,) = seen_publishers(watched, subscription, until, 1).publishers
    assert publisher.qos == "best effort, volatile"
    assert publisher.mismatch == "Best effort publisher and reliable subscription"
    watching.create_publisher(Empty, "image", LATCHED)
    publishers = seen_publishers(watched, subscription, until, 2).publishers
    assert ("reliable, transient local", "") in publishers


def test_every_policy_that_cannot_match_is_named(pair):
    watched, watching, until = pair
    subscription = watched.create_subscription(Empty, "image", lambda msg: None, LATCHED)
    watching.create_publisher(Empty, "image", BEST_EFFORT)
    (publisher,) = seen_publishers(watched, subscription, until, 1).publishers
    assert publisher.mismatch == (
        "Best effort publisher and reliable subscription, Volatile publisher and transient local subscription"
    )


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_publisher_of_another_type_is_reported_with_both_types(stand_in, other_process, transport):
    published, subscribed = (CompressedImage, Image) if transport == "raw" else (Empty, CompressedImage)
    rig = stand_in(image_transport=transport, diagnostics__silent_after_s=0.1)
    rig.disconnect()  # of the right type
    assert [rig.change_state(label) for label in ("configure", "activate")] == [True] * 2
    topic = rig.cameras[""].subscriptions[0].topic_name
    rig.spin_until(lambda: not rig.node.get_publishers_info_by_topic(topic), "the other publisher to be gone")
    publisher = other_process.create_publisher(published, topic, qos_profile_sensor_data)
    rig.spin_until(lambda: rig.node.get_publishers_info_by_topic(topic), "discovery")
    deadline_s = time.monotonic() + 0.3
    while time.monotonic() < deadline_s:
        publisher.publish(published())
        rig.executor.spin_once(timeout_sec=0.02)
    status = rig.diagnostics()["camera"]
    assert status.level == DiagnosticStatus.WARN
    assert status.message.endswith(
        f"incompatible ({type_name(published)} is published, and {type_name(subscribed)} subscribed to)"
    )
    assert type_name(Image) == "sensor_msgs/msg/Image"
    assert rig.node.counts["received"] == 0


def test_a_listener_reads_once_a_second_what_happens_now(pair):
    watched, watching, until = pair
    heard = []
    watching.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    camera = CameraStatistics("front")

    def observe():
        return NodeSnapshot("vehicle/watched", "active", cameras=[(camera.snapshot(), None)]), DiagnosticsConfig()

    Diagnostics(watched, observe)
    until(lambda: len(heard) >= 1)
    camera.rejected("encoding", "rgb9 is no encoding")
    count = len(heard)
    until(lambda: len(heard) > count)
    began_s = time.monotonic()
    until(lambda: len(heard) > count + 1)
    assert 0.5 < time.monotonic() - began_s < 5
    last = heard[-1]
    assert [status.name for status in last.status] == [
        "vehicle/watched: inference",
        "vehicle/watched: camera front",
    ]
    assert last.status[1].level == DiagnosticStatus.WARN
    assert {item.key: item.value for item in last.status[1].values}["rejected/encoding"] == "1"
    assert last.header.stamp.sec > 0


def test_simulated_time_that_stands_still_does_not_silence_it(pair):
    watched, watching, until = pair
    heard = []
    watching.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    watched.set_parameters([Parameter("use_sim_time", value=True)])
    Diagnostics(watched, lambda: (NodeSnapshot("vehicle/watched", "inactive"), DiagnosticsConfig()))
    until(lambda: heard)
    assert heard[0].header.stamp.sec == 0
    assert heard[0].status[0].message == "node is inactive; images are not processed"


def test_gpu_memory_is_reported_for_pytorch_on_gpu_only():
    assert gpu_memory({"device": "cpu", "backend": "torch"}) == gpu_memory({}) == {}
    told = gpu_memory({"device": "cuda:0", "backend": "onnxruntime"})
    assert told == {"GPU memory": "unknown: onnxruntime does not report it"}


@pytest.mark.gpu
def test_gpu_memory_is_what_pytorch_holds():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    block = torch.zeros(64 * 2**20, dtype=torch.uint8, device="cuda:0")
    memory = {name: int(value) for name, value in gpu_memory({"device": "cuda:0", "backend": "torch"}).items()}
    assert 64 <= memory["GPU memory allocated (MiB)"] <= memory["GPU memory reserved (MiB)"]
    assert memory["GPU memory reserved (MiB)"] <= memory["GPU memory total (MiB)"]
    assert block.numel() == 64 * 2**20
