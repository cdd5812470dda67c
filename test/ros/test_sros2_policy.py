"""The SROS 2 policy allows what the node has, and nothing else."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from eomt_ext_ros.outputs.registry import OUTPUTS

POLICY = Path(__file__).resolve().parents[2] / "config" / "sros2_policy.xml"

# What the node has only with a setting, a package or a distribution that may be missing here.
ON_CONDITION = {
    "subscribe": {"/eomt_ext/input/image/compressed", "/clock", "/tf", "/tf_static", "/bond"},
    "publish": {f"/eomt_ext/output/{name}" for name in ("label_info", "obstacles", "obstacles_3d")} | {"/bond"},
    "reply": {"/eomt_ext/get_type_description"},
}


def allowed(action):
    """Full names that the policy allows the node to publish, subscribe to or reply on."""
    names = [
        str(expression.text)
        for group in ElementTree.parse(POLICY).getroot().iter()
        if group.get(action) == "ALLOW"
        for expression in group
        if expression.tag in ("topic", "service")
    ]
    assert len(set(names)) == len(names), "each name is there once"
    return {name.replace("~", "/eomt_ext") for name in names}


def test_the_policy_has_the_form_that_ros2_security_reads():
    root = ElementTree.parse(POLICY).getroot()
    assert (root.tag, root.attrib) == ("policy", {"version": "0.2.0"})
    (enclave,) = root.findall("enclaves/enclave")
    assert enclave.get("path") == "/eomt_ext"
    (profile,) = enclave.findall("profiles/profile")
    assert profile.attrib == {"ns": "/", "node": "eomt_ext"}
    rules = {(group.tag, *group.attrib.items()) for group in profile}
    assert rules == {
        ("topics", ("subscribe", "ALLOW")),
        ("topics", ("publish", "ALLOW")),
        ("services", ("reply", "ALLOW")),
    }


def test_the_policy_names_every_output():
    named = {name.partition("/output/")[2] for name in allowed("publish") if "/output/" in name}
    assert named == {output.name for output in OUTPUTS}


def test_the_policy_allows_what_a_running_node_has(rig):
    pytest.importorskip("rclpy")
    rig.start()
    here = rig.node.get_name(), rig.node.get_namespace()
    queries = {
        "publish": rig.node.get_publisher_names_and_types_by_node,
        "subscribe": rig.node.get_subscriber_names_and_types_by_node,
        "reply": rig.node.get_service_names_and_types_by_node,
    }
    for action, query in queries.items():
        needed = allowed(action) - ON_CONDITION[action]
        # A node of the same name that an earlier test has not let go of would answer in this one's place.
        rig.spin_until(lambda: needed <= {name for name, _ in query(*here)}, f"all of {action} that is allowed")  # noqa: B023
        assert {name for name, _ in query(*here)} - allowed(action) == set(), f"{action} is not allowed"
