"""The node's parameters: declared from the frozen dataclasses, and read back into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from eomt_ext_core.config import EngineConfig, check_options, option

# ROS ranges have two ends; these stand in for "none".
_UNBOUNDED_INT, _UNBOUNDED_FLOAT = 2**31 - 1, 1e9


@dataclass(frozen=True)
class NodeConfig:
    """Settings of the node; those of the engine are parameters of the same node."""

    checkpoint: str = option("demo", "file, folder or hf://owner/name of the model; demo is the built-in demonstration")
    head: str = option("", "separate file with the anomaly head, or empty")
    autostart: bool = option(True, "configure and activate at start")
    overlay_opacity: float = option(0.75, "opacity of the heatmap where the probability is 1", minimum=0.0, maximum=1.0)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        check_options(self)


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
    return _build(NodeConfig, values | dict(changed or {}), "")


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
    return factory if factory is not MISSING and is_dataclass(factory) else None  # type: ignore[return-value]


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
            ends = {"from_value": int(low or 0), "to_value": int(_UNBOUNDED_INT if high is None else high)}
            descriptor.integer_range = [IntegerRange(**ends)]
        else:
            ends_float = {"from_value": float(low or 0.0), "to_value": float(_UNBOUNDED_FLOAT if high is None else high)}
            descriptor.floating_point_range = [FloatingPointRange(**ends_float)]
    return descriptor


