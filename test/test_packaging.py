"""The package builds the way ROS 2 workspaces build it, and says each thing in one place."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "package.xml",
    "setup.py",
    "setup.cfg",
    "README.md",
    "resource",
    "launch",
    "config",
    "eomt_ext_core",
    "eomt_ext_ros",
)


def test_every_file_names_one_version() -> None:
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    for name, line in (
        ("training/pyproject.toml", f'version = "{version}"'),
        ("CITATION.cff", f"version: {version}"),
        ("CHANGELOG.md", f"## {version} "),
    ):
        assert line in (ROOT / name).read_text("utf-8"), name


def test_version_and_licence_come_from_the_manifest() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    said = subprocess.run(
        [sys.executable, "setup.py", "--version", "--license"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[-2:] == [manifest.findtext("version"), manifest.findtext("license")]


def test_the_lock_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock


@pytest.mark.skipif(importlib.util.find_spec("colcon_ros") is None, reason="colcon is not installed")
def test_colcon_builds_and_installs_the_package(tmp_path: Path) -> None:
    package = tmp_path / "src" / "eomt_ext_ros"
    package.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, package / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, package / part)
    built = subprocess.run(
        [sys.executable, "-m", "colcon", "build"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    installed = tmp_path / "install" / "eomt_ext_ros"
    assert (installed / "share/ament_index/resource_index/packages/eomt_ext_ros").is_file()
    for name in ("anomaly_node", "eomt-ext"):
        assert (installed / "lib/eomt_ext_ros" / name).is_file()
    share = installed / "share/eomt_ext_ros"
    assert {path.name for path in (share / "launch").iterdir()} == {
        path.name for path in (ROOT / "launch").glob("*.launch.py")
    }
    assert {path.name for path in (share / "config").iterdir()} == {path.name for path in (ROOT / "config").iterdir()}
    assert list(installed.glob("lib/python*/site-packages/eomt_ext_core/assets/demo.safetensors"))
