"""The guides speak of what there is: topics, services, parameters, files, and words of the diagnostics."""

import re
from pathlib import Path

import pytest
import yaml

from eomt_ext_ros.diagnostics import snapshot as observation
from eomt_ext_ros.diagnostics import status as diagnostic_status
from eomt_ext_ros.diagnostics.camera_statistics import CameraSnapshot
from eomt_ext_ros.messages import images
from eomt_ext_ros.node import anomaly_node as node
from eomt_ext_ros.outputs.registry import OUTPUTS, output_topic
from eomt_ext_ros.parameters.node_config import CameraConfig, NodeConfig
from eomt_ext_ros.parameters.parameter_fields import parameter_fields
from eomt_ext_ros.pipeline import camera, image_reports, publishing, session

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = [
    *(DOCS / name for name in ("topics.md", "troubleshooting.md", "architecture.md")),
    *(page for folder in ("vehicle", "tutorials", "how_to") for page in sorted((DOCS / folder).glob("*.md"))),
]

NAMES = {output_topic(output.name, node="~") for output in OUTPUTS} | {
    "~/input/image", "~/input/image/compressed", "~/input/camera_info", "~/set_enabled", "~/reload",
}  # fmt: skip
PARAMETERS = {item.name for item in parameter_fields(NodeConfig)}
SPEAKING = (diagnostic_status, camera, node, observation, image_reports, publishing, session)
CAMERA_PARAMETERS = {item.name for item in parameter_fields(CameraConfig)}


def flat(tree, prefix=""):
    """Full names of what a YAML file of parameters sets."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_names_of_the_node_are_its_own(guide):
    text = guide.read_text(encoding="utf-8")
    named = set(re.findall(r"~/(?:<camera>/|front/|left/)?((?:input|output)/[a-z_/]+[a-z]|set_enabled|reload)", text))
    assert {f"~/{name}" for name in named} - NAMES == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_dotted_parameters_exist_and_files_are_there(guide):
    text = guide.read_text(encoding="utf-8")
    dotted = set(re.findall(r"`((?:obstacles|windows|diagnostics|ground|tracking|health)\.[a-z_]+)`", text))
    dotted -= {"diagnostic_status.py", "obstacles.csv"}
    assert dotted - PARAMETERS == set()
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (guide.parent / link).is_file() or Path(link).name == "commands.md", link  # which the site generates
    for path in re.findall(r"`((?:eomt_ext_core|eomt_ext_ros|training|test|benchmarks|config|docs)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip() for line in text.splitlines() if line[:1] == "#"}
        assert anchor in {heading.replace(" ", "-") for heading in headings}


def test_the_table_of_topics_is_the_registry_of_outputs():
    text = (DOCS / "topics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`~/output/[\w/]+`(?:, )?)+) \| (.*?) \|", text, re.MULTILINE)
    told = {topic: types for topics, types in rows for topic in re.findall(r"`(.*?)`", topics)}
    assert told.keys() == {output_topic(output.name, node="~") for output in OUTPUTS}
    for output in OUTPUTS:
        types = told[output_topic(output.name, node="~")]
        assert re.findall(r"`(\w+/\w+)`", types) == [output.message_type.replace("/msg/", "/")]
        assert output.encoding in types


def test_example_parameters_build_a_configuration():
    text = "".join(guide.read_text(encoding="utf-8") for guide in GUIDES)
    examples = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    ours = [example["/**"]["ros__parameters"] for example in examples if "/**" in example]
    assert len(ours) >= 5
    for parameters in ours:
        cameras = parameters.get("cameras", [])
        NodeConfig(cameras=tuple(cameras))
        allowed = PARAMETERS | {f"{camera}.{name}" for camera in cameras for name in CAMERA_PARAMETERS}
        for name, _ in flat({key: value for key, value in parameters.items() if key != "qos_overrides"}):
            assert name in allowed


def test_the_counts_of_the_interface_are_those_of_the_node():
    text = (DOCS / "vehicle" / "diagnostics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/<\w+>` \|(.*)\|$", text, re.MULTILINE)
    told = {kind: set(re.findall(r"`(\w+)`", row)) for kind, row in rows}
    (kinds,) = re.findall(r"failed/<kind>`` \((.*?)\)", CameraSnapshot.__doc__, re.DOTALL)
    assert told == {
        "rejected": {*re.findall(r'``"(\w+)"``', images.__doc__), "stale", "unhealthy"},
        "failed": set(re.findall(r"``(\w+)``", kinds)),
    }


def test_quoted_diagnostics_are_what_the_node_says():
    source = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in SPEAKING)
    guide = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    for words in (
        "compatible; nothing is sent, or the network loses it",
        "nobody subscribes to an output",
        "subscribed to, but not in the parameter outputs",
        "the node was disabled",
        "while ~/reload loads a checkpoint",
        "newest image rejected",
        "node is disabled by ~/set_enabled",
        "image not processed",
        "inference fails",
        "inference has processed one batch for",
        "all that is subscribed to needs a camera_info or the ground, and is withheld",
        "but the model does not give the class of each pixel",
        "ahead of the node's clock",
        "s old: set use_sim_time, or synchronise the clocks",
        "camera is not well",
    ):
        assert words in guide
        assert words in source
