"""The node as a process of its own, as an operator starts and ends it."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from eomt_ext_ros.messages.images import to_image_msg

TIMEOUT_S = 300.0  # importing torch takes a minute where the machine is busy
END_S = 2.0  # from the signal to the end

# Inference of a white image takes for ever.
NODE = """
import sys, time
from eomt_ext_core import AnomalyEngine
from eomt_ext_ros.node import main
infer_batch = AnomalyEngine.infer_batch
def slow(engine, images_rgb, **kwargs):
    if images_rgb[0].min() == 255:
        print("inference begins", flush=True)
        time.sleep(600)
    return infer_batch(engine, images_rgb, **kwargs)
AnomalyEngine.infer_batch = slow
sys.exit(main())
"""
# Loading a model takes for ever.
LOADING = """
import sys, time
from eomt_ext_core import AnomalyEngine
from eomt_ext_ros.node import main
def load(*_, **__):
    print("loading begins", flush=True)
    time.sleep(600)
AnomalyEngine.load = load
sys.exit(main())
"""
# Drawing a picture takes for ever.
DRAWING = """
import sys, time
from eomt_ext_ros.outputs import rendering
from eomt_ext_ros.node import main
def draw(*_):
    print("drawing begins", flush=True)
    time.sleep(600)
rendering.blend = draw
sys.exit(main())
"""


class Client:
    """Talks to the node ``/<namespace>/eomt_ext`` of another process."""

    def __init__(self, caller):
        self.caller, self.answers = caller, []
        node, prefix = caller.client, caller.prefix
        self.publisher = node.create_publisher(Image, prefix + "input/image", qos_profile_sensor_data)
        self.subscription = node.create_subscription(Image, prefix + "output/probability", self.answers.append, 100)

    def find_node(self):
        self.caller.spin_until(self.publisher.get_subscription_count, "the node to subscribe")
        topic = self.caller.prefix + "output/probability"
        self.caller.spin_until(lambda: self.caller.client.count_publishers(topic), "the node to advertise")


@pytest.fixture
def make_client(make_caller):
    return lambda namespace: Client(make_caller(f"/{namespace}/eomt_ext/", timeout_s=TIMEOUT_S))


@pytest.fixture(scope="module")
def processes(tiny_model, tmp_path_factory):
    """Nodes, started at once as each imports for seconds: ``auto``, ``manual`` (no autostart), and two that hang."""
    logs = tmp_path_factory.mktemp("logs")
    starts = {
        "auto": (NODE, []),
        "manual": (NODE, ["-p", "autostart:=false"]),
        "loading": (LOADING, []),
        "drawing": (DRAWING, []),
    }
    started = {}
    for name, (program, extra) in starts.items():
        parameters = ["-p", f"checkpoint:={tiny_model}", "-p", "device:=cpu", "-p", "health.enabled:=false", *extra]
        command = [sys.executable, "-c", program, "--ros-args", "-r", f"__ns:=/{name}", *parameters]
        with (logs / name).open("wb") as log:
            # The whole environment: where ROS is installed from wheels it holds more than PYTHONPATH.
            started[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
        started[name].log = logs / name
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def end_amid_inference(client, process, how):
    """Send the signal while an image is worked on."""

    def inference_begins():
        client.publisher.publish(to_image_msg(np.full((48, 80, 3), 255, np.uint8), "rgb8", Header()))
        return "inference begins" in process.log.read_text()

    client.caller.spin_until(inference_begins, "inference")
    assert "ERROR" not in end(process, how)


def waited_for_a_core_s(process):
    """How long each thread that there still is could have run and did not, as others did; by its number."""
    waited_s = {}
    for thread in Path(f"/proc/{process.pid}/task").glob("*"):
        with suppress(OSError, IndexError):  # it has ended
            waited_s[thread.name] = int((thread / "schedstat").read_text().split()[1]) * 1e-9
    return waited_s


def end(process, how):
    """Send the signal, twice as the impatient do, and hold the node to ending at once and in order; its log."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    until_signal = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    began, waited_before_s = time.monotonic(), waited_for_a_core_s(process)
    waited_s = dict(waited_before_s)
    process.send_signal(how)
    time.sleep(0.3)
    process.send_signal(how)
    while process.poll() is None and time.monotonic() < began + 60:  # a tenth of what inference and loading take
        waited_s |= waited_for_a_core_s(process)
        time.sleep(0.01)
    longest_wait_s = max(waited_s[thread] - waited_before_s.get(thread, 0.0) for thread in waited_s)
    taken_s, code = time.monotonic() - began, process.poll()
    whole = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
    log = process.log.read_text()
    assert code == 0, log
    assert whole - until_signal < END_S, "of the CPU"
    assert taken_s - longest_wait_s < END_S, "on the clock, without what the machine did else"
    assert "Traceback" not in log
    return log


def test_sigint_during_inference_ends_the_process(processes, make_client):
    client = make_client("auto")
    client.find_node()
    assert client.caller.state == "active"
    pixels = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    sent = []
    began = time.monotonic()
    while len(client.answers) < 10 and time.monotonic() < began + TIMEOUT_S:
        msg = to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1 + len(sent), nanosec=7), frame_id="front"))
        sent.append(msg.header)
        client.publisher.publish(msg)
        while time.monotonic() < began + len(sent) / 15:
            client.caller.executor.spin_once(timeout_sec=0.005)
    headers = [answer.header for answer in client.answers]
    assert len(headers) >= 10, processes["auto"].log.read_text()
    assert all(header in sent for header in headers)
    stamps = [header.stamp.sec for header in headers]
    assert stamps == sorted(set(stamps))
    client.caller.spin_until(lambda: client.answers[-1].header == sent[-1], "an answer to the last image")
    data = np.frombuffer(client.answers[-1].data, np.float32)
    assert data.size == 540 * 960
    assert data.min() >= 0
    assert data.max() <= 1
    end_amid_inference(client, processes["auto"], signal.SIGINT)


def test_services_start_it_and_sigterm_ends_it(processes, make_client):
    client = make_client("manual")
    caller = client.caller
    assert caller.state == "unconfigured"
    assert caller.change_state("configure")
    assert caller.change_state("activate")
    assert caller.state == "active"
    client.find_node()
    end_amid_inference(client, processes["manual"], signal.SIGTERM)


def test_a_signal_ends_it_while_a_model_is_loaded(processes):
    process, began = processes["loading"], time.monotonic()
    while "loading begins" not in process.log.read_text():
        assert time.monotonic() < began + TIMEOUT_S, process.log.read_text()
        time.sleep(0.05)
    end(process, signal.SIGINT)


def test_a_signal_ends_it_while_a_picture_is_drawn(processes, make_client):
    process, client = processes["drawing"], make_client("drawing")
    overlays = []
    client.caller.client.create_subscription(Image, client.caller.prefix + "output/overlay", overlays.append, 100)
    client.find_node()

    def drawing_begins():
        client.publisher.publish(to_image_msg(np.zeros((48, 80, 3), np.uint8), "rgb8", Header()))
        return "drawing begins" in process.log.read_text()

    client.caller.spin_until(drawing_begins, "drawing")
    client.caller.spin_until(lambda: client.answers, "what programs read")
    end(process, signal.SIGTERM)
    assert overlays == []
