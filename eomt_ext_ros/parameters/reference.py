"""The reference of the node's parameters as a Markdown page, from the dataclasses; needs no ROS.

``python -m eomt_ext_ros.parameters.reference > docs/parameters.md`` writes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from eomt_ext_core.config import EngineConfig, ObstacleConfig, WindowConfig
from eomt_ext_core.ground.ground_config import GroundConfig
from eomt_ext_core.health import HealthConfig
from eomt_ext_core.tracking import TrackingConfig
from eomt_ext_ros.parameters.node_config import CameraConfig, DiagnosticsConfig, NodeConfig
from eomt_ext_ros.parameters.parameter_fields import ParameterField, own_fields

_INTRODUCTION = """\
# Parameters of the node

Written by `python -m eomt_ext_ros.parameters.reference > docs/parameters.md` from the dataclasses that the node
reads; a test holds this page to them. `config/anomaly.yaml` is a file of all of them to start from, each commented out.

A **live** parameter changes while the node runs (`ros2 param set /eomt_ext <name> <value>`, rqt_reconfigure). The
others can be set at the start and while the node is unconfigured; while it is configured a change is refused with the
reason: clean the node up, set them, and configure it again. A value that breaks a rule is refused with the rule, at any
time.
An empty list of strings is written `[""]`, an empty list of numbers `[]`. A whole number may stand for a double. What
`ros2 param dump /eomt_ext` writes is a parameter file.

The quality of service of a topic is set at the start, by `qos_overrides.<topic>.<publisher or subscription>.<policy>`
with the topic's resolved name and the policies `history`, `depth` and `reliability`.
"""

_SECTIONS: tuple[tuple[str, str, type, str], ...] = (
    ("Node", "What runs, and what is published.", NodeConfig, ""),
    ("Cameras", "With several `cameras`, each has parameters under its own name.", CameraConfig, "<camera>."),
    ("Engine", "How the model runs.", EngineConfig, ""),
    ("Windows", "How an image is cut into the windows that the network sees.", WindowConfig, "windows."),
    ("Obstacles", "What of the probability becomes an obstacle.", ObstacleConfig, "obstacles."),
    ("Tracking", "How obstacles are followed from image to image.", TrackingConfig, "tracking."),
    ("Ground", "Where on the ground obstacles stand.", GroundConfig, "ground."),
    ("Health", "When a camera is not well by its images.", HealthConfig, "health."),
    ("Diagnostics", "When `/diagnostics` warns.", DiagnosticsConfig, "diagnostics."),
)


def parameter_reference() -> str:
    """The page."""
    sections = (
        f"## {title}\n\n{lead}\n\n{_table(own_fields(config, prefix))}" for title, lead, config, prefix in _SECTIONS
    )
    return "\n".join((_INTRODUCTION, *sections))


def _table(items: Iterable[ParameterField]) -> str:
    rows = [
        f"| `{item.name}` | {_type(item)} | {_default(item)} | {_allowed(item)} | {'yes' if item.live else ''} | "
        f"{_escaped(item.doc)} |\n"
        for item in items
    ]
    return "| Name | Type | Default | Allowed | Live | |\n|---|---|---|---|---|---|\n" + "".join(rows)


def _type(item: ParameterField) -> str:
    name = {str: "string", float: "double"}.get(item.kind, item.kind.__name__)
    return f"{name}[]" if item.is_list else name


def _default(item: ParameterField) -> str:
    if item.is_list:
        return "empty" if not item.default else ", ".join(f"`{part}`" for part in item.default)
    value = str(item.default).lower() if isinstance(item.default, bool) else str(item.default)
    return f"`{value}`" if value else "empty"


def _allowed(item: ParameterField) -> str:
    if item.choices:
        return ", ".join(f"`{choice}`" for choice in item.choices)
    if item.minimum is None and item.maximum is None:
        return ""
    if item.maximum is None:
        return f"at least {item.minimum}"
    if item.minimum is None:
        return f"at most {item.maximum}"
    return f"{item.minimum} to {item.maximum}"


def _escaped(text: str) -> str:
    return re.sub(r"[|<~]", r"\\\g<0>", text)


if __name__ == "__main__":
    print(parameter_reference(), end="")
