"""The page of licences: every dependency is on it, under a licence that Apache-2.0 can live with."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "licences.md").read_text("utf-8")


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("licences_under_test", ROOT / "docs" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_on_the_page(program):
    assert PAGE.startswith(program.HEAD), "run: python docs/licences.py > docs/licences.md"
    rows = re.findall(r"^\| ([\w-]+) \| (.+) \| .+ \|$", PAGE, re.MULTILINE)
    assert dict(rows) == {"package": "for"} | program.requirements(), "run: python docs/licences.py > docs/licences.md"
    assert {"torch", "ros-rclpy", "lightning", "jsonargparse"} <= program.requirements().keys()


def test_no_dependency_is_under_the_gpl(program):
    for name in ("torch", "timm", "typer", "rich", "opencv-python-headless"):
        assert not re.search(r"\bA?GPL", program.licence(name))
    assert not re.search(r"^\| .*\bA?GPL", PAGE, re.MULTILINE)


def test_the_licence_is_the_expression_else_the_classifier(program, monkeypatch):
    from email.message import Message

    facts = Message()
    facts["Classifier"] = "License :: OSI Approved :: MIT License"
    monkeypatch.setattr(program.metadata, "metadata", lambda name: facts)
    assert program.licence("a") == "MIT License"
    facts["License-Expression"] = "MIT"
    assert program.licence("a") == "MIT"
