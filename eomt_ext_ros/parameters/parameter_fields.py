"""The fields of the configuration dataclasses under the names that they have as parameters; needs no ROS."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from eomt_ext_core.errors import ConfigError

Config = TypeVar("Config")

# A parameter file's [] arrives as None, which `ros2 param dump` writes as null. A node that starts with that file gets
# the first of these words, and `ros2 param load` sends the second.
_EMPTY_LISTS = ("null", "None")


@dataclass(frozen=True)
class ParameterField:
    """A field of a configuration, as a parameter.

    Attributes:
        name: of the parameter: that of the field, behind the names of the fields that it is nested in.
        kind: the type of the value, or of the elements of a list.
        is_list: whether the value is a list.
        default: of the dataclass.
        doc, minimum, maximum, choices, live: as declared with :func:`~eomt_ext_core.config.option`.
    """

    name: str
    kind: type
    is_list: bool
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    live: bool

    def checked(self, value: Any) -> Any:
        """Give the value as the dataclass takes it.

        The empty string is no element of a list: a parameter file has no other way to write an empty list of strings.
        A whole number may stand for a float. Elsewhere ROS itself holds a parameter to its type.

        Raises:
            ConfigError: if it is no list, or of another type.
        """
        if not self.is_list:
            return self._element(value) if self.kind is float else value
        if value is None or value in _EMPTY_LISTS:
            return ()
        if isinstance(value, str) or not isinstance(value, Collection):
            raise ConfigError(f"{self.name} must be a list, got {value!r}")
        return tuple(self._element(part) for part in value if part != "")

    def _element(self, value: Any) -> Any:
        if self.kind is float and type(value) is int:
            return float(value)
        if type(value) is not self.kind:
            rule = "hold values of type" if self.is_list else "be of type"
            raise ConfigError(f"{self.name} must {rule} {self.kind.__name__}, got {value!r}")
        return value


class _Nested(NamedTuple):
    field: Field[Any]
    config: type
    prefix: str


def parameter_fields(config: type, prefix: str = "") -> Iterator[ParameterField]:
    """Give every field of a dataclass as a parameter.

    Those of a dataclass nested in it are called ``<field>.<name>``; only the engine's stand beside the node's own.

    >>> from eomt_ext_ros.parameters.node_config import NodeConfig
    >>> [item.name for item in parameter_fields(NodeConfig) if item.name in ("device", "windows.mode")]
    ['device', 'windows.mode']
    """
    for item in _items(config, prefix):
        if isinstance(item, _Nested):
            yield from parameter_fields(item.config, item.prefix)
        else:
            yield item


def own_fields(config: type, prefix: str = "") -> Iterator[ParameterField]:
    """Give the fields of a dataclass without those of the dataclasses nested in it."""
    return (item for item in _items(config, prefix) if isinstance(item, ParameterField))


def build(config: type[Config], values: Mapping[str, Any], prefix: str = "") -> Config:
    """Build a dataclass, and those nested in it, from a value for each of its parameters.

    Raises:
        ConfigError: if a value breaks a rule.
    """
    arguments: dict[str, Any] = {}
    for item in _items(config, prefix):
        if isinstance(item, _Nested):
            arguments[item.field.name] = build(item.config, values, item.prefix)
        else:
            arguments[item.name.removeprefix(prefix)] = item.checked(values[item.name])
    return config(**arguments)


def values_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """The value of each parameter of a configuration: the reverse of :func:`build`."""
    values: dict[str, Any] = {}
    for item in _items(type(config), prefix):
        if isinstance(item, _Nested):
            values |= values_of(getattr(config, item.field.name), item.prefix)
        else:
            values[item.name] = getattr(config, item.name.removeprefix(prefix))
    return values


def refuse_fixed_changes(before: Config, after: Config, prefix: str = "") -> None:
    """Hold a configuration that is in use to what may change then.

    Raises:
        ConfigError: if anything else differs, with the names.

    >>> from eomt_ext_core.config import EngineConfig
    >>> refuse_fixed_changes(EngineConfig(), EngineConfig(threshold=0.7))
    >>> refuse_fixed_changes(EngineConfig(), EngineConfig(device="cpu"))
    Traceback (most recent call last):
    eomt_ext_core.errors.ConfigError: device can change only while the node is unconfigured: clean it up first
    """
    old, new = values_of(before, prefix), values_of(after, prefix)
    fields_here = parameter_fields(type(before), prefix)
    fixed = [item.name for item in fields_here if not item.live and old[item.name] != new[item.name]]
    if fixed:
        raise ConfigError(f"{', '.join(fixed)} can change only while the node is unconfigured: clean it up first")


_hints = functools.cache(get_type_hints)


def _items(config: type, prefix: str) -> Iterator[ParameterField | _Nested]:
    hints = _hints(config)
    for item in fields(config):
        factory: Any = item.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield _Nested(item, factory, prefix if item.name == "engine" else f"{prefix}{item.name}.")
        else:
            yield _as_parameter(item, prefix, hints[item.name])


def _as_parameter(item: Field[Any], prefix: str, hint: Any) -> ParameterField:
    assert item.default is not MISSING, f"{item.name} has no default"
    is_list = get_origin(hint) is tuple
    kind = get_args(hint)[0] if is_list else hint
    return ParameterField(prefix + item.name, kind, is_list, item.default, **item.metadata)
