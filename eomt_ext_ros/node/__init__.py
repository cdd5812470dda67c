"""The lifecycle node, and what ROS calls of it: transitions, services, the program."""

from eomt_ext_ros.node.anomaly_node import AnomalyNode
from eomt_ext_ros.node.program import main, prepare_process

__all__ = ["AnomalyNode", "main", "prepare_process"]
