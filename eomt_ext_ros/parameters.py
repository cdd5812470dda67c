"""The node's parameters: declared from the frozen dataclasses, and read back into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from eomt_ext_ros.node_config import NodeConfig

# ROS ranges have two ends; these stand in for "none".
_UNBOUNDED_INT, _UNBOUNDED_FLOAT = 2**31 - 1, 1e9


# What may change while the node is configured; everything else takes effect when it is configured anew.
LIVE_PARAMETERS = ("threshold", "overlay_opacity")


def declare_parameters(node: Node) -> None:
    """Declare every field of :class:`NodeConfig`, with its description and range, as a parameter of the node.

    Fields of the engine have their own names; those of its windows are ``windows.<name>``.
    """
    for name, item in _flat_fields(NodeConfig):
        default = item.default
        assert default is not MISSING, "every plain field has a default"
        node.declare_parameter(name, default, _descriptor(item))


def read_parameters(node: Node, changed: Mapping[str, Any] | None = None) -> NodeConfig:
    """Build the configuration from the node's parameters.

    Args:
        node: with declared parameters.
        changed: values that take the place of the node's.

    Raises:
        ConfigError: where a value breaks a rule.
    """
    values = {name: node.get_parameter(name).value for name, _ in _flat_fields(NodeConfig)}
    config: NodeConfig = _build(NodeConfig, values | dict(changed or {}), "")
    return config


def changed_values(parameters: list[Parameter]) -> dict[str, Any]:
    """Those of a list of parameters that are ours, by name."""
    ours = {name for name, _ in _flat_fields(NodeConfig)}
    return {parameter.name: parameter.value for parameter in parameters if parameter.name in ours}


def _flat_fields(config: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    for item in fields(config):
        nested = _nested(item)
        if nested is None:
            yield prefix + item.name, item
        else:
            yield from _flat_fields(nested, prefix + _prefix_of(item))


def _build(config: type, values: Mapping[str, Any], prefix: str) -> Any:
    arguments = {}
    for item in fields(config):
        nested = _nested(item)
        if nested is None:
            arguments[item.name] = values[prefix + item.name]
        else:
            arguments[item.name] = _build(nested, values, prefix + _prefix_of(item))
    return config(**arguments)


def _nested(item: Field[Any]) -> type | None:
    factory = item.default_factory
    return factory if factory is not MISSING and isinstance(factory, type) and is_dataclass(factory) else None


def _prefix_of(item: Field[Any]) -> str:
    return "" if item.name == "engine" else f"{item.name}."


def _descriptor(item: Field[Any]) -> ParameterDescriptor:
    meta = item.metadata
    choices, low, high = meta["choices"], meta["minimum"], meta["maximum"]
    descriptor = ParameterDescriptor(description=meta["doc"])
    if choices:
        descriptor.additional_constraints = "one of " + ", ".join(choices)
    if low is not None or high is not None:
        if isinstance(item.default, int):
            first, last = (-_UNBOUNDED_INT if low is None else low), (_UNBOUNDED_INT if high is None else high)
            descriptor.integer_range = [IntegerRange(from_value=int(first), to_value=int(last))]
        else:
            first, last = (-_UNBOUNDED_FLOAT if low is None else low), (_UNBOUNDED_FLOAT if high is None else high)
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(first), to_value=float(last))]
    return descriptor
