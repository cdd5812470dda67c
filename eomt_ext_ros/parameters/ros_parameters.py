"""The node's parameters: declared from the frozen dataclasses, and read back into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.parameter_fields import Config, ParameterField, build, parameter_fields

# ROS ranges have two ends; these stand in for "none".
_UNBOUNDED_INT, _UNBOUNDED_FLOAT = 2**31 - 1, 1e9

# Not ROS's own flag of that name, which would refuse changes before the node is configured too, and a whole parameter
# file that is loaded anew with the same values.
FIXED_NOTE = "read-only while the node is configured"


def declare_parameters(node: Node, config: type = NodeConfig, prefix: str = "") -> None:
    """Declare every field of a dataclass, with its description and range, as a parameter of the node.

    Lists are declared without a type, as an empty one has none, and floats, as a whole number is an integer in a
    parameter file; the types of both are checked where they are read. What the node starts with gets its type here.

    Args:
        node: that gets them.
        config: the dataclass.
        prefix: of the names, such as ``front.``
    """
    for item in parameter_fields(config, prefix):
        given = node.declare_parameter(item.name, ros_value(item), _descriptor(item))
        typed = _typed(item, given)
        if typed.type_ != given.type_:
            node.set_parameters([typed])


def _typed(item: ParameterField, given: Parameter) -> Parameter:
    """Give a parameter the type that tools show and dump, whatever its value came as."""
    try:
        value = item.checked(given.value)
    except ConfigError:
        return given  # which is refused where the parameters are read
    if item.is_list and item.kind is float:
        return Parameter(item.name, Parameter.Type.DOUBLE_ARRAY, list(value))
    return Parameter(item.name, value=(list(value) or ros_value(item)) if item.is_list else value)


def read_parameters(
    node: Node,
    changed: Mapping[str, Any] | None = None,
    config: type[Config] = NodeConfig,  # type: ignore[assignment]
    prefix: str = "",
) -> Config:
    """Build a configuration from the node's parameters.

    Args:
        node: with declared parameters.
        changed: values that take the place of the node's; see :func:`changed_values`.
        config: the dataclass.
        prefix: of the names.

    Raises:
        ConfigError: if a value breaks a rule, or a parameter is to be deleted.
    """
    changed = changed or {}
    deleted = [name for name, value in changed.items() if value is None]
    if deleted:
        raise ConfigError(f"{', '.join(deleted)} cannot be deleted: set a value")
    values = {item.name: node.get_parameter(item.name).value for item in parameter_fields(config, prefix)}
    return build(config, values | dict(changed), prefix)


def changed_values(parameters: Sequence[Parameter], config: type = NodeConfig, prefix: str = "") -> dict[str, Any]:
    """Those of a list of parameters that are fields of the dataclass, by name."""
    ours = {item.name for item in parameter_fields(config, prefix)}
    return {parameter.name: parameter.value for parameter in parameters if parameter.name in ours}


def ros_value(item: ParameterField) -> Any:
    """The default as a parameter's value: an empty list of strings is one empty string, as a file would write it."""
    if not item.is_list:
        return item.default
    return list(item.default) or ([""] if item.kind is str else [])


def _descriptor(item: ParameterField) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=item.doc if item.live else f"{item.doc} ({FIXED_NOTE})")
    descriptor.dynamic_typing = item.is_list or item.kind is float
    if item.choices:
        descriptor.additional_constraints = "one of " + ", ".join(item.choices)
    elif item.is_list:
        descriptor.additional_constraints = f"a list of {item.kind.__name__}"
    if item.minimum is not None or item.maximum is not None:
        low, high = item.minimum, item.maximum
        if item.kind is int:
            first, last = (-_UNBOUNDED_INT if low is None else low), (_UNBOUNDED_INT if high is None else high)
            descriptor.integer_range = [IntegerRange(from_value=int(first), to_value=int(last))]
        else:
            first, last = (-_UNBOUNDED_FLOAT if low is None else low), (_UNBOUNDED_FLOAT if high is None else high)
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(first), to_value=float(last))]
    return descriptor
