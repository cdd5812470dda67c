"""Statuses from hand-made snapshots: their levels, their words and their values."""

from dataclasses import replace

import pytest

pytest.importorskip("diagnostic_msgs")
from diagnostic_msgs.msg import DiagnosticStatus

from eomt_ext_core.health import Fault, Health
from eomt_ext_ros.diagnostics.camera_statistics import CameraSnapshot
from eomt_ext_ros.diagnostics.sliding_window import Percentiles
from eomt_ext_ros.diagnostics.status import Endpoint, InputTopic, NodeSnapshot, build_statuses
from eomt_ext_ros.parameters.node_config import DiagnosticsConfig

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
CONFIG = DiagnosticsConfig(silent_after_s=5.0, late_after_s=0.5, late_frames=3)
FACTS = {"device": "cuda:0", "device_name": "NVIDIA H200", "precision": "bf16", "checkpoint_sha256": "c0ffee"}
TOPIC = InputTopic("/camera/image_raw", "best effort, volatile", (Endpoint("reliable, volatile"),))
CAMERA = CameraSnapshot(
    counts={"received": 40, "published": 30, "dropped": 9, "rejected/size": 1},
    input_rate_hz=15.0,
    output_rate_hz=10.0,
    input_age_s=0.0501,
    waiting_s=0.0501,
    processing_s=Percentiles(0.08, 0.09),
    latency_s=Percentiles(0.1, 0.12),
    tracks={"tentative": 1, "confirmed": 2},
)
NODE = NodeSnapshot("/vehicle/eomt_ext", "active", facts=FACTS, cameras=[(CAMERA, TOPIC)])


def statuses(node=NODE, **camera):
    if camera:
        node = replace(node, cameras=[(replace(CAMERA, **camera), TOPIC)])
    return build_statuses(node, CONFIG)


def silent(topic, **camera):
    node = replace(NODE, cameras=[(replace(CAMERA, waiting_s=5.04, **camera), topic)])
    status = build_statuses(node, CONFIG)[1]
    assert status.level == WARN
    return status.message


def values(status):
    found = {item.key: item.value for item in status.values}
    assert len(found) == len(status.values)
    return found


def test_a_node_at_work_is_ok():
    inference, camera = statuses()
    assert (inference.level, camera.level) == (OK, OK)
    assert (inference.name, camera.name) == ("vehicle/eomt_ext: inference", "vehicle/eomt_ext: camera")
    assert (inference.hardware_id, camera.hardware_id) == ("NVIDIA H200", "/camera/image_raw")
    assert inference.message == "running on NVIDIA H200"
    assert camera.message == "15.0 Hz in, 10.0 Hz out, latency p50 0.100 s"


def test_the_values_say_all_of_the_node():
    node = replace(NODE, gpu_memory={"GPU memory allocated (MiB)": "1234"})
    assert values(statuses(node)[0]) == {
        "state": "active",
        "enabled": "true",
        **FACTS,
        "GPU memory allocated (MiB)": "1234",
    }


def test_a_mask_that_covers_most_of_the_image_for_seconds_is_a_warning():
    node = replace(NODE, facts=FACTS | {"threshold": "0.5 (set)"})
    covered = {"mask_fraction": 0.97, "full_mask_s": 3.2}
    status = statuses(node=replace(node, cameras=[(replace(CAMERA, **covered), TOPIC)]))[1]
    assert status.level == WARN
    assert "covered most of the image for 3.2 s, now 0.97 of it: the threshold 0.5 (set)" in status.message
    passing = statuses(mask_fraction=0.97, full_mask_s=1.0)[1]
    assert (passing.level, values(passing)["mask fraction"]) == (OK, "0.9700")


def test_a_camera_that_is_not_well_says_why_and_since_when():
    broken = Health((Fault("frozen", 12.5), Fault("dirt", 9.0)))
    status = statuses(health=broken)[1]
    assert (status.level, values(status)["health"]) == (ERROR, "frozen, dirt")
    assert status.message.startswith("camera is not well: frozen since the stamp 12.500: ")
    dirty = statuses(health=Health((Fault("dirt", 9.0),)))[1]
    assert dirty.level == WARN
    well = statuses(health=Health())[1]
    assert (well.level, values(well)["health"]) == (OK, "well")


def test_the_values_say_all_of_a_camera():
    assert values(statuses()[1]) == {
        "input rate (Hz)": "15.00",
        "output rate (Hz)": "10.00",
        "age of the newest input (s)": "0.050",
        "processing time p50 (s)": "0.0800",
        "processing time p99 (s)": "0.0900",
        "latency p50 (s)": "0.1000",
        "latency p99 (s)": "0.1200",
        "latency clock": "system",
        "consecutive late images": "0",
        "tracks": "2 confirmed, 1 tentative",
        "mask fraction": "none yet",
        "health": "not judged",
        "received": "40",
        "published": "30",
        "dropped": "9",
        "skipped": "0",
        "rejected/size": "1",
        "topic": "/camera/image_raw",
        "subscription QoS": "best effort, volatile",
        "publishers": "1",
        "publisher QoS": "reliable, volatile",
    }


def test_what_is_not_known_is_said_to_be_so():
    found = values(statuses(input_age_s=None, processing_s=None, latency_s=None)[1])
    assert found["age of the newest input (s)"] == "none yet"
    assert {found[f"{name} p{p} (s)"] for name in ("processing time", "latency") for p in (50, 99)} == {"unknown"}


def test_latencies_under_simulated_time_are_told_apart():
    assert values(statuses(replace(NODE, simulated_time=True))[1])["latency clock"] == "simulated"


def test_each_camera_has_a_status():
    cameras = [(replace(CAMERA, name=name), replace(TOPIC, name=f"/{name}")) for name in ("front", "rear")]
    cameras[1] = (replace(cameras[1][0], failure="boom"), cameras[1][1])
    found = statuses(replace(NODE, cameras=cameras))
    assert [(status.name.rpartition(": ")[2], status.level) for status in found] == [
        ("inference", OK),
        ("camera front", OK),
        ("camera rear", ERROR),
    ]
    assert [status.hardware_id for status in found[1:]] == ["/front", "/rear"]


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "finalized"])
def test_inactive_node_warns_without_silent_cameras(state):
    node = replace(NODE, state=state, facts={}, cameras=[(replace(CAMERA, waiting_s=60.0), None)])
    for status in statuses(node):
        assert status.level == WARN
        assert status.message == f"node is {state}; images are not processed"


def test_a_disabled_node_warns():
    for status in statuses(replace(NODE, enabled=False)):
        assert (status.level, values(statuses(replace(NODE, enabled=False))[0])["enabled"]) == (WARN, "false")
        assert status.message == "node is disabled by ~/set_enabled; images are not processed"


def test_an_error_of_the_node_comes_first():
    node = replace(NODE, state="unconfigured", error="configure failed: checkpoint x is truncated", cameras=[])
    (status,) = statuses(node)
    assert status.level == ERROR
    assert status.message == (
        "configure failed: checkpoint x is truncated; node is unconfigured; images are not processed"
    )


def test_silence_without_publishers():
    assert silent(replace(TOPIC, publishers=())) == (
        "no image on /camera/image_raw for 5.0 s: 0 publishers, subscribed as best effort, volatile"
    )


def test_silence_of_a_publisher_that_cannot_match():
    mismatch = "Best effort publisher and reliable subscription"
    topic = InputTopic("/camera/image_raw", "reliable, volatile", [Endpoint("best effort, volatile", mismatch)])
    assert silent(topic) == (
        "no image on /camera/image_raw for 5.0 s: 1 publisher (best effort, volatile), subscribed as reliable, "
        "volatile: incompatible (Best effort publisher and reliable subscription)"
    )


def test_silence_of_publishers_that_match():
    topic = replace(TOPIC, publishers=[Endpoint("reliable, volatile"), Endpoint("reliable, volatile")])
    assert silent(topic) == (
        "no image on /camera/image_raw for 5.0 s: 2 publishers (reliable, volatile), subscribed as best effort, "
        "volatile: compatible; nothing is sent, or the network loses it"
    )


def test_one_publisher_that_matches_is_enough_to_be_compatible():
    topic = replace(TOPIC, publishers=[Endpoint("best effort, volatile", "no"), Endpoint("reliable, volatile")])
    assert "2 publishers (best effort, volatile / reliable, volatile)" in silent(topic)
    assert "incompatible" not in silent(topic)


def test_silence_begins_after_the_limit():
    assert statuses(waiting_s=5.0)[1].level == OK
    assert statuses(waiting_s=5.1, input_age_s=None)[1].level == WARN


def test_images_that_get_no_answer_warn():
    status = statuses(unprocessed_s=12.0)[1]
    assert (status.level, status.message) == (WARN, "receiving images, none processed for 12.0 s")
    assert "none processed" not in statuses(unprocessed_s=12.0, waiting_s=6.0)[1].message


def test_a_low_rate_that_was_asked_for_is_no_fault():
    slow = replace(NODE, least_period_s=10.0)  # max_rate_hz 0.1
    assert statuses(slow, unprocessed_s=14.9)[1].level == OK
    assert statuses(slow, unprocessed_s=15.1)[1].level == WARN


def test_a_failure_is_an_error_and_says_what_else_is_wrong():
    status = statuses(failure="CUDA out of memory", rejection="bad size")[1]
    assert status.level == ERROR
    assert status.message == "image not processed: CUDA out of memory; newest image rejected: bad size"


def test_a_rejected_image_warns():
    status = statuses(rejection="encoding must be one of these, got rgb9")[1]
    assert status.level == WARN
    assert status.message == "newest image rejected: encoding must be one of these, got rgb9"


def test_late_images_in_a_row_warn():
    assert statuses(late_in_a_row=2)[1].level == OK
    status = statuses(late_in_a_row=3, latency_s=Percentiles(0.7, 0.9))[1]
    assert (status.level, values(status)["consecutive late images"]) == (WARN, "3")
    assert status.message == "3 images in a row later than 0.5 s: 15.0 Hz in, 10.0 Hz out, latency p50 0.700 s"


def test_stamps_of_another_clock_warn():
    ahead = statuses(latency_s=Percentiles(-0.2, 0.1))[1]
    assert (ahead.level, values(ahead)["latency p50 (s)"]) == (WARN, "-0.2000")
    assert ahead.message == "stamps are 0.200 s ahead of the node's clock: synchronise the clocks"
    old = statuses(latency_s=Percentiles(1e8, 1e8), late_in_a_row=50)[1]
    assert old.level == WARN
    assert old.message == "stamps are 100000000 s old: set use_sim_time, or synchronise the clocks"


def test_dropped_images_and_idleness_are_no_fault():
    counts = {"received": 1000, "dropped": 990}
    status = statuses(counts=counts, skip="nobody subscribes to an output", output_rate_hz=0.0)[1]
    assert status.level == OK
    assert status.message == "15.0 Hz in, 0.0 Hz out: nobody subscribes to an output"
