"""What is known of the node at one moment, for its diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eomt_ext_ros.diagnostic_status import NodeSnapshot
from eomt_ext_ros.diagnostics import gpu_memory, input_topic
from eomt_ext_ros.reports import in_brief

if TYPE_CHECKING:
    from eomt_ext_ros.node import AnomalyNode


def observe(node: AnomalyNode) -> NodeSnapshot:
    """Look at the node, from the executor's thread."""
    inference = node.inference
    facts = {} if inference is None else inference.describe()
    failure = None if inference is None else inference.error
    cameras = []
    for name in node.settings.cameras:
        subscriptions = node.cameras[name].subscriptions if name in node.cameras else []
        topic = input_topic(node, subscriptions[0]) if subscriptions else None
        cameras.append((node.statistics_of(name).snapshot(), topic))
    return NodeSnapshot(
        name=node.get_fully_qualified_name(),
        state=node.state,
        enabled=node.enabled,
        error=node.error or (f"inference fails: {in_brief(failure)}" if failure else ""),
        facts=facts,
        gpu_memory=gpu_memory(facts.get("device", "")),
        simulated_time=node.get_parameter("use_sim_time").value,
        cameras=cameras,
    )
