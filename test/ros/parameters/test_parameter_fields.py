"""The dataclasses as parameters, without ROS, and the page that is written from them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_core.config import EngineConfig, WindowConfig, option
from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.parameter_fields import (
    build,
    own_fields,
    parameter_fields,
    refuse_fixed_changes,
    values_of,
)
from eomt_ext_ros.parameters.reference import parameter_reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "parameters.md"


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...] = option(("a",), "some names", live=True)
    numbers: tuple[float, ...] = option((), "some numbers")


@dataclass(frozen=True)
class Outer:
    size: int = option(3, "a size", minimum=1)
    inner: Inner = field(default_factory=Inner)


def test_nested_fields_have_the_name_of_what_they_are_in():
    assert [item.name for item in parameter_fields(Outer, "front.")] == [
        "front.size",
        "front.inner.names",
        "front.inner.numbers",
    ]
    assert [item.name for item in own_fields(Outer)] == ["size"]


def test_a_field_says_what_it_is():
    size, names, numbers = parameter_fields(Outer)
    assert (size.kind, size.is_list, size.default, size.minimum, size.live) == (int, False, 3, 1, False)
    assert (names.kind, names.is_list, names.default, names.doc, names.live) == (str, True, ("a",), "some names", True)
    assert (numbers.kind, numbers.is_list, numbers.default) == (float, True, ())


@given(
    st.builds(
        Outer, st.integers(1, 9), st.builds(Inner, st.lists(st.text("ab", min_size=1)).map(tuple), st.just((0.5,)))
    ),
    st.sampled_from(["", "front."]),
)
def test_values_and_configuration_are_each_others_reverse(config, prefix):
    assert build(Outer, values_of(config, prefix), prefix) == config


@pytest.mark.parametrize(
    ("value", "tuple_"),
    [([1, 2.5], (1.0, 2.5)), ([], ()), ([""], ()), (None, ()), ("null", ()), ("None", ()), ((0.5,), (0.5,))],
)
def test_lists_become_tuples(value, tuple_):
    config = build(Inner, {"names": ["x"], "numbers": value})
    assert config == Inner(names=("x",), numbers=tuple_)
    assert all(type(number) is float for number in config.numbers)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("names", "x", "names must be a list, got 'x'"),
        ("names", 1, "names must be a list, got 1"),
        ("names", ["x", 1], "names must hold values of type str, got 1"),
        ("numbers", [True], "numbers must hold values of type float, got True"),
        ("numbers", ["1"], "numbers must hold values of type float, got '1'"),
    ],
)
def test_what_is_no_such_list_is_refused(name, value, rule):
    with pytest.raises(ConfigError, match=f"^{rule}$"):
        build(Inner, {"names": ["x"], "numbers": [], name: value})


def test_a_float_may_be_a_whole_number_and_nothing_else():
    values = values_of(WindowConfig())
    assert type(build(WindowConfig, values | {"scale": 2}).scale) is float
    for other in (True, "2", None):
        with pytest.raises(ConfigError, match=f"scale must be of type float, got {other!r}"):
            build(WindowConfig, values | {"scale": other})


def test_the_rules_of_the_dataclass_hold():
    with pytest.raises(ConfigError, match="scale must be at most"):
        build(WindowConfig, values_of(WindowConfig()) | {"scale": 9.0})


def test_fixed_changes_are_refused_with_all_their_names():
    before = NodeConfig()
    live = replace(before, overlay_opacity=0.1, engine=EngineConfig(threshold=0.3))
    refuse_fixed_changes(before, live)
    fixed = replace(live, autostart=False, engine=EngineConfig(max_windows=8, windows=WindowConfig(scale=2.0)))
    with pytest.raises(ConfigError, match=r"^autostart, max_windows can change only while the node is unconfigured"):
        refuse_fixed_changes(before, fixed)


def test_every_parameter_has_a_description_that_says_something():
    for item in parameter_fields(NodeConfig):
        assert len(item.doc.split()) > 2, item.name


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == parameter_reference(), (
        "run: python -m eomt_ext_ros.parameters.reference > docs/parameters.md"
    )


def test_the_page_has_every_parameter_once():
    rows = [line.split("|")[1].strip(" `") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
    names = {item.name for item in parameter_fields(NodeConfig)}
    assert names < set(rows)
    assert len(rows) == len(set(rows))
    assert all(name.startswith("<camera>.") for name in set(rows) - names)
