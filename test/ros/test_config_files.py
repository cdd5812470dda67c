"""The shipped configuration files against what reads them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from eomt_ext_ros.outputs.registry import OUTPUTS, output_topic

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture
def overrides_of(context):
    """What a node is given by a parameter file, its own parameters of those names, and all names that it declares."""
    from eomt_ext_ros.node import AnomalyNode

    def read(path):
        arguments = ["--ros-args", "-r", "__ns:=/front", "--params-file", str(path)]
        node = AnomalyNode(context=context, cli_args=arguments)
        given = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
        declared = {name: node.get_parameter(name).value for name in given}
        names = set(node._parameters) - {"use_sim_time", "start_type_description_service"}
        config = node.config
        node.destroy_node()
        return given, declared, names, config

    return read


def test_the_parameter_file_sets_nothing_by_itself(overrides_of):
    given, *_ = overrides_of(CONFIG / "anomaly.yaml")
    assert given == {}, "or it would override what an including launch file sets by SetParameter"


def test_parameter_file_holds_every_default(overrides_of, tmp_path):
    from eomt_ext_ros.parameters.node_config import NodeConfig

    text = (CONFIG / "anomaly.yaml").read_text(encoding="utf-8")
    lines = text[text.index("# /**:") :].splitlines()
    path = tmp_path / "all.yaml"
    path.write_text("\n".join(line.removeprefix("# ") for line in lines), encoding="utf-8")
    given, declared, names, config = overrides_of(path)
    assert given.pop("obstacles.polygon") is None, "which is how a [] arrives"
    assert declared.pop("obstacles.polygon") == []
    assert given == declared
    assert {*given, "obstacles.polygon"} == names
    assert config == NodeConfig()


def test_rviz_shows_overlay_first_and_raw_probability():
    yaml = pytest.importorskip("yaml")
    manager = yaml.safe_load((CONFIG / "anomaly.rviz").read_text())["Visualization Manager"]
    displays = {display["Topic"]["Value"].rpartition("/")[2]: display for display in manager["Displays"]}
    images, in_metres = ["overlay", "probability", "mask"], ["obstacle_points", "scan"]
    assert list(displays) == [*images, *in_metres]
    for name, display in displays.items():
        assert (display["Class"] == "rviz_default_plugins/Image") == (name in images)
        assert display["Enabled"] == (name in images), "what is in metres needs a calibration, which may not be there"
        assert display["Topic"]["Value"].startswith("/eomt_ext/output/")
        assert display["Topic"]["Reliability Policy"] == "Reliable"
    probability = displays["probability"]
    assert (probability["Normalize Range"], probability["Min Value"], probability["Max Value"]) == (False, 0, 1)


def test_dds_profile_has_large_shared_memory_and_udp():
    root = ElementTree.parse(CONFIG / "fastdds.xml").getroot()
    space = {"dds": "http://www.eprosima.com"}
    transports = {
        item.findtext("dds:transport_id", namespaces=space): (
            item.findtext("dds:type", namespaces=space),
            item.findtext("dds:segment_size", namespaces=space),
        )
        for item in root.iterfind(".//dds:transport_descriptor", space)
    }
    assert set(transports.values()) == {("SHM", str(64 * 2**20)), ("UDPv4", None)}
    participant = root.find(".//dds:participant", space)
    assert participant.get("is_default_profile") == "true"
    used = participant.iterfind(".//dds:userTransports/dds:transport_id", space)
    assert {item.text for item in used} == set(transports)
    assert participant.findtext(".//dds:useBuiltinTransports", namespaces=space) == "false"


def test_foxglove_layout_names_our_topics_and_only_its_panels():
    layout = json.loads((CONFIG / "anomaly.foxglove.json").read_text(encoding="utf-8"))
    panels, topics = layout["configById"], {output_topic(output.name) for output in OUTPUTS}
    assert sorted(leaves(layout["layout"])) == sorted(panels)
    assert {kind.split("!")[0] for kind in panels} <= {"Image", "3D", "DiagnosticSummary"}
    shown = [panel["imageMode"]["imageTopic"] for panel in panels.values() if "imageMode" in panel]
    shown += [topic for panel in panels.values() for topic in panel.get("topics", {})]
    assert len(shown) == 4
    assert set(shown) <= topics


def leaves(split):
    """The panels in a layout, which is a panel's name or is split into two."""
    return [split] if isinstance(split, str) else leaves(split["first"]) + leaves(split["second"])
