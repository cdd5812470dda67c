"""The node as a process of its own, as an operator starts and ends it."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from eomt_ext_ros.images import to_image_msg

TIMEOUT_S = 300.0  # importing torch takes a minute where the machine is busy

SLOW_NODE = """
import sys, time
from eomt_ext_core import AnomalyEngine
from eomt_ext_ros.node import main
infer = AnomalyEngine.infer
def slow(engine, image_rgb):
    print("inference begins", flush=True)
    time.sleep(1.5)
    return infer(engine, image_rgb)
AnomalyEngine.infer = slow
sys.exit(main())
"""


class Client:
    """Talks to the node ``/<namespace>/eomt_ext`` of another process."""

    def __init__(self, context, namespace, log):
        self.log = log
        self.prefix = f"/{namespace}/eomt_ext/"
        self.node = Node("client", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.answers = []
        self.publisher = self.node.create_publisher(Image, self.prefix + "input/image", qos_profile_sensor_data)
        topic = self.prefix + "output/probability"
        self.subscription = self.node.create_subscription(Image, topic, self.answers.append, 100)

    def spin_until(self, condition, what, timeout_s=TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}; {self.log.read_text()}"
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind, service, request):
        client = self.node.create_client(kind, self.prefix + service)
        self.spin_until(client.service_is_ready, service)
        future = client.call_async(request)
        self.spin_until(future.done, f"the answer of {service}")
        return future.result()

    def change_state(self, label):
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(label=label))).success

    @property
    def state(self):
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def find_node(self):
        self.spin_until(self.publisher.get_subscription_count, "the node to subscribe")
        topic = self.prefix + "output/probability"
        self.spin_until(lambda: self.node.count_publishers(topic), "the node to advertise")

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def make_client(context, processes):
    clients = []

    def make(namespace):
        clients.append(Client(context, namespace, processes[namespace].log))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def processes(tiny_model, tmp_path_factory):
    """Two nodes, started at once as each imports for seconds: ``active``, and ``slow``, which does not autostart."""
    logs = tmp_path_factory.mktemp("logs")
    starts = {"active": (["-m", "eomt_ext_ros.node"], []), "slow": (["-c", SLOW_NODE], ["-p", "autostart:=false"])}
    started = {}
    for name, (program, extra) in starts.items():
        parameters = ["-p", f"checkpoint:={tiny_model}", "-p", "device:=cpu", *extra]
        command = [sys.executable, *program, "--ros-args", "-r", f"__ns:=/{name}", *parameters]
        with (logs / name).open("wb") as log:
            # The whole environment: where ROS is installed from wheels it holds more than PYTHONPATH.
            started[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
        started[name].log = logs / name
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def end(process, how):
    """Send the signal; the exit code, the CPU seconds that ending took, and the log.

    CPU seconds, as those on the clock depend on what else the machine does.
    """
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    until_signal = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(how)
    code = process.wait(TIMEOUT_S)
    whole = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
    return code, whole - until_signal, process.log.read_text()


def test_a_camera_at_15_hz_is_answered_in_order_until_sigint(processes, make_client):
    client = make_client("active")
    client.find_node()
    assert client.state == "active"
    pixels = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    sent = []
    began = time.monotonic()
    while len(client.answers) < 10 and time.monotonic() < began + TIMEOUT_S:
        msg = to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1 + len(sent), nanosec=7), frame_id="front"))
        sent.append(msg.header)
        client.publisher.publish(msg)
        while time.monotonic() < began + len(sent) / 15:
            client.executor.spin_once(timeout_sec=0.005)
    headers = [answer.header for answer in client.answers]
    assert len(headers) >= 10, processes["active"].log.read_text()
    assert all(header in sent for header in headers)
    stamps = [header.stamp.sec for header in headers]
    assert stamps == sorted(set(stamps))
    client.spin_until(lambda: client.answers[-1].header == sent[-1], "an answer to the last image")
    data = np.frombuffer(client.answers[-1].data, np.float32)
    assert data.size == 540 * 960
    assert data.min() >= 0
    assert data.max() <= 1
    code, cpu_s, log = end(processes["active"], signal.SIGINT)
    assert code == 0, log
    assert cpu_s < 2
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_without_autostart_services_start_it_and_sigterm_ends_it_amid_inference(processes, make_client):
    client = make_client("slow")
    process = processes["slow"]
    assert client.state == "unconfigured"
    assert client.change_state("configure")
    assert client.change_state("activate")
    assert client.state == "active"
    client.find_node()

    def inference_begins():
        client.publisher.publish(to_image_msg(np.zeros((48, 80, 3), np.uint8), "rgb8", Header()))
        return "inference begins" in process.log.read_text()

    client.spin_until(inference_begins, "inference")
    code, cpu_s, log = end(process, signal.SIGTERM)
    assert code == 0, log
    assert cpu_s < 2
    assert "Traceback" not in log
    assert "ERROR" not in log
