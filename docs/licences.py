"""The licences of the dependencies, by the installed packages: ``python docs/licences.py > docs/licences.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOR = {
    "": "always",
    "ros": "ROS 2 from PyPI",
    "bags": "bags and videos",
    "ray": "evaluation on a cluster",
    "benchmark": "submissions to SegmentMeIfYouCan",
    "bench": "the plot of `eomt-ext bench`",
    "export": "`eomt-ext export`, `backend: onnxruntime`",
    "openvino": "`backend: openvino`",
    "site": "`make site`",
    "dev": "tests and lint",
    "training": "training",
}
# Packages whose metadata say nothing, and where it is said.
SAID_ELSEWHERE = {"setuptools": "MIT (its LICENSE)"} | {
    f"ros-{name}": "Apache-2.0 (package.xml of its source)"
    for name in ("diagnostic-msgs", "rclpy", "sensor-msgs", "std-srvs")
}
HEAD = """# Licences

eomt_ext_ros is under Apache-2.0. This is what it depends on, what each package is for, and the licence stated in
its metadata. Written by `python docs/licences.py > docs/licences.md`.

Two wheels bring FFmpeg along. That of imageio-ffmpeg holds an executable built under the GPL, which `eomt-ext` runs as
a program of its own, to write videos. If you may not pass that on, for example in a container, install it with
`pip install --no-binary imageio-ffmpeg imageio-ffmpeg` and take the system's `ffmpeg`. That of opencv-python-headless
holds libraries under the LGPL.

Weights have licences of their own: those of DINOv3 and of models trained on data for research may not be used for
everything that their code may be used for. The built-in model was trained on scenes that this package draws.

| package | for | licence |
|---|---|---|
"""


def requirements() -> dict[str, str]:
    """Give what each direct dependency is needed for, by its name; the first of several uses."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    project = (ROOT / "training" / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    extras["training"] = "\n".join(re.findall(r'"([^"]+)"', listed[1])) if listed else ""
    needed: dict[str, str] = {}
    for extra, lines in extras.items():
        for line in filter(None, map(str.strip, lines.splitlines())):
            name = re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]
            if not name.startswith("eomt"):
                needed.setdefault(name, FOR[extra])
    return needed


def licence(name: str) -> str:
    """Give the licence that a package states: the expression, else the classifiers, else the first line of the text."""
    facts = metadata.metadata(name)
    expressions = facts.get_all("License-Expression") or []
    classes = [each.split(" :: ")[-1] for each in facts.get_all("Classifier") or [] if each.startswith("License ::")]
    stated = [line for text in facts.get_all("License") or [] for line in text.strip().splitlines()]
    return ", ".join(expressions or classes) or (stated[0] if stated else SAID_ELSEWHERE[name])


def page() -> Iterator[str]:
    """Give the page, part by part."""
    yield HEAD
    for name, purpose in requirements().items():
        yield f"| {name} | {purpose} | {licence(name)} |\n"


if __name__ == "__main__":
    print("".join(page()), end="")
