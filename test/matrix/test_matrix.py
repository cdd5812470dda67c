"""The parts of the matrix that can be seen without running it."""

import configparser
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import typer

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("matrix_under_test", HERE / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_named_python_comes_first_and_missing_one_is_none(matrix, tmp_path):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    named = tmp_path / "python"
    named.symlink_to(sys.executable)
    broken = tmp_path / "broken"
    broken.write_text("no program")
    assert matrix.find_python(version, [str(broken), str(tmp_path / "missing"), str(named)]) == str(named)
    assert matrix.find_python("2.99", [str(named)]) is None


def test_missing_python_is_skipped_with_a_hint(matrix):
    outcome = matrix.run_cell("2.99", "jazzy", [], [])
    assert (outcome.status, outcome.detail) == ("skipped", "Python 2.99 is not installed: name it in PYTHON_MATRIX")


@pytest.mark.parametrize(
    ("statuses", "code"),
    [(["passed"], 0), (["passed", "skipped"], 0), (["passed", "failed"], 1), (["skipped"], 1), ([], 1)],
)
def test_exit_status_needs_a_pass_and_no_failure(matrix, statuses, code):
    assert matrix.exit_status([matrix.Outcome("3.12", "jazzy", status, "") for status in statuses]) == code


@pytest.mark.parametrize(
    ("program", "passed", "figures"),
    [
        ("def test_a(): pass", True, "1 passed, 0 skipped, 0 failed, 0 errors"),
        ("def test_a(): pass\ndef test_b(): assert 0", False, "1 passed, 0 skipped, 1 failed, 0 errors"),
        ("import pytest\ndef test_a(): pytest.skip()", False, "0 passed, 1 skipped, 0 failed, 0 errors"),
    ],
)
def test_the_figures_are_those_of_the_suite(matrix, tmp_path, monkeypatch, program, passed, figures):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take their time to load
    test = tmp_path / "test_it.py"
    test.write_text(program)
    arguments = ["-c", "/dev/null", "--rootdir", str(tmp_path), str(test)]
    went_well, words = matrix.run_suite(Path(sys.executable), "kilted", tmp_path / "cell.log", arguments)
    assert went_well is passed
    assert words.startswith(figures)


def test_the_suite_starts_without_the_libraries_of_this_environment(matrix, tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/usr/lib/other:{sys.prefix}/lib/ros_rcl.libs")
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    monkeypatch.setenv("PATH", "/usr/bin")
    found = matrix._environment(tmp_path / "bin" / "python", "jazzy")
    assert found["ROS_DISTRO"] == "jazzy"
    assert (found["PATH"], found["LD_LIBRARY_PATH"]) == (f"{tmp_path}/bin:/usr/bin", "/usr/lib/other")
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in found


def test_locked_jazzy_replaces_only_ros_packages(matrix):
    def names(text):
        return {line.partition("==")[0] for line in text.splitlines() if not line.startswith((" ", "#"))}

    rest, jazzy = names(matrix.without_ros(matrix.LOCK.read_text())), names((HERE / "jazzy.lock").read_text())
    assert all(name.startswith("ros-") for name in jazzy)
    assert not rest & jazzy
    assert {"torch", "numpy", "empy", "lark-parser", "pyyaml", "setuptools"} <= rest
    assert "ros-rclpy==7.1.6" in (HERE / "jazzy.lock").read_text()


def test_the_least_versions_are_those_that_setup_declares(matrix):
    settings = configparser.ConfigParser()
    settings.read(matrix.ROOT / "setup.cfg")
    declared = dict(line.split(">=") for line in settings["options"]["install_requires"].split())
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", matrix.LEAST_LOCK.read_text(), re.MULTILINE))
    for name, version in declared.items():
        parts = version.split(".")
        assert locked[name].split(".")[: len(parts)] == parts, f"{name}: run make lock"
    assert locked["timm"] == "1.0.28", "older ones run what is in a checkpoint"


def test_lowest_versions_use_core_and_oldest_python(matrix, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(matrix, "find_python", lambda version, named: sys.executable)
    monkeypatch.setattr(matrix, "make_environment", lambda python, distribution, folder: Path(folder.name))

    def run_suite(interpreter, distribution, log, arguments):
        tried.append((str(interpreter), arguments))
        return True, ""

    monkeypatch.setattr(matrix, "run_suite", run_suite)
    with pytest.raises(typer.Exit) as end:
        matrix.main()
    assert end.value.exit_code == 0
    assert ("3.10-least", ["test/core", "eomt_ext_core"]) in tried
    assert [name for name, _ in tried if "least" in name] == ["3.10-least"]
    assert len(tried) == 7
