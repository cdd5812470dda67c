"""The test suite on every supported Python with every ROS 2 distribution: ``make test-matrix``.

Each pair has an environment of its own in ``.venv-matrix/``, kept for the next time. The oldest Python has one more:
the core alone, with the least versions that setup.cfg declares. A Python that is not installed is skipped and named;
everything else that goes wrong is a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-matrix"
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.10", "3.11", "3.12")
# Distributions, each with the locked packages that take the place of the ROS 2 of requirements.lock.
DISTRIBUTIONS = {"kilted": None, "jazzy": Path(__file__).with_name("jazzy.lock")}
LEAST = "least"
LEAST_LOCK = Path(__file__).with_name("least.lock")
LEAST_TESTS = ["test/core", "eomt_ext_core"]
# What an environment is made from: where any of it is newer, the environment is made anew.
INGREDIENTS = (
    LOCK,
    *(path for path in DISTRIBUTIONS.values() if path),
    LEAST_LOCK,
    ROOT / "setup.cfg",
    ROOT / "setup.py",
)


@dataclass(frozen=True)
class Outcome:
    """How the suite went in one environment."""

    python: str
    distribution: str
    status: str  # passed, failed or skipped
    detail: str


def find_python(version: str, named: list[str]) -> str | None:
    """Look for an interpreter of this version: among the named ones, on the PATH, in pyenv."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    candidates = [*named, sys.executable, shutil.which(f"python{version}"), *map(str, pyenv)]
    return next((path for path in candidates if path and _version_of(path) == version), None)


def _version_of(path: str) -> str | None:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", program], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def without_ros(lock: str) -> str:
    """A requirements file, as uv writes it, without the packages of ROS 2.

    >>> print(without_ros("numpy==2 \\\\\\n    --hash=sha256:1\\nros-rcl==10 \\\\\\n    --hash=sha256:2\\ntorch==2"))
    numpy==2 \\
        --hash=sha256:1
    torch==2
    """
    kept, keep = [], True
    for line in lock.splitlines():
        if not line.startswith((" ", "\t")):
            keep = not line.startswith("ros-")
        if keep:
            kept.append(line)
    return "\n".join(kept)


def make_environment(python: str, distribution: str, folder: Path) -> Path:
    """Make an environment, unless it is there and current; returns its interpreter.

    Raises:
        subprocess.CalledProcessError: where that fails.
    """
    interpreter = folder / "bin" / "python"
    made_from = hashlib.sha256(b"".join(path.read_bytes() for path in INGREDIENTS)).hexdigest()
    marker = folder / ".made_from"
    if marker.is_file() and marker.read_text() == made_from:
        return interpreter
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(interpreter)]
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)], check=True)
    replacement = DISTRIBUTIONS.get(distribution)
    requirements = [LEAST_LOCK if distribution == LEAST else LOCK]
    if replacement is not None:
        requirements = [folder / "without_ros.lock", replacement]
        requirements[0].write_text(without_ros(LOCK.read_text()))
    files = [part for path in requirements for part in ("-r", str(path))]
    subprocess.run([*install, "--require-hashes", *files], check=True)
    ours = ["-e", "."] if distribution == LEAST else ["-e", ".", "-e", "training"]
    subprocess.run([*install, "--no-deps", "--no-build-isolation", *ours], cwd=ROOT, check=True)
    marker.write_text(made_from)
    return interpreter


def run_suite(interpreter: Path, distribution: str, log: Path, arguments: list[str]) -> tuple[bool, str]:
    """Run pytest; returns whether all passed, and the figures in words. The log holds what it printed."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    environment = _environment(interpreter, distribution)
    command = [str(interpreter), "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    with log.open("w") as output:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    suite = ElementTree.parse(report).find("testsuite") if report.is_file() else None
    if suite is None:
        return False, f"pytest ended with {code} and no report: {log}"
    tests, failures, errors, skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    passed = tests - failures - errors - skipped
    figures = (
        f"{passed} passed, {skipped} skipped, {failures} failed, {errors} errors in {float(suite.get('time', 0)):.0f} s"
    )
    return code == 0 and passed > 0, figures if code == 0 else f"{figures}: {log}"


def _environment(interpreter: Path, distribution: str) -> dict[str, str]:
    """Ours, without what the ROS 2 wheels wrote into it when this interpreter started: libraries of this one.

    The wheels do not set ``ROS_DISTRO``, as an installed distribution does.
    """
    ours = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    libraries = ours.pop("LD_LIBRARY_PATH", "").split(os.pathsep)
    others = [path for path in libraries if path and not Path(path).is_relative_to(sys.prefix)]
    paths = {"PATH": f"{interpreter.parent}{os.pathsep}{ours['PATH']}", "LD_LIBRARY_PATH": os.pathsep.join(others)}
    return ours | {"ROS_DISTRO": distribution} | {name: value for name, value in paths.items() if value}


def run_cell(version: str, distribution: str, named: list[str], arguments: list[str]) -> Outcome:
    """Make the environment of a pair and run the suite in it."""
    python = find_python(version, named)
    if python is None:
        return Outcome(version, distribution, "skipped", f"Python {version} is not installed: name it in PYTHON_MATRIX")
    folder = ENVIRONMENTS / f"{version}-{distribution}"
    try:
        interpreter = make_environment(python, distribution, folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return Outcome(version, distribution, "failed", f"no environment: {error}")
    if distribution == LEAST:
        arguments = arguments or LEAST_TESTS
    passed, figures = run_suite(interpreter, distribution, ENVIRONMENTS / f"{folder.name}.log", arguments)
    return Outcome(version, distribution, "passed" if passed else "failed", figures)


def exit_status(outcomes: list[Outcome]) -> int:
    """0 where something ran and nothing failed."""
    statuses = {outcome.status for outcome in outcomes}
    return 0 if "passed" in statuses and "failed" not in statuses else 1


def main(
    arguments: Annotated[list[str] | None, typer.Argument(help="of pytest")] = None,
    python: Annotated[list[str] | None, typer.Option(help=f"version; all of {', '.join(PYTHONS)} without")] = None,
    ros: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(DISTRIBUTIONS)}, {LEAST}; all without")] = None,
) -> None:
    """Run the test suite on every Python that is installed, with every ROS 2 distribution."""
    console = Console()
    ENVIRONMENTS.mkdir(exist_ok=True)
    named = os.environ.get("PYTHON_MATRIX", "").split()
    outcomes = []
    for version in python or PYTHONS:
        for distribution in ros or [*DISTRIBUTIONS, *([LEAST] if version == PYTHONS[0] else [])]:
            console.print(f"Python {version}, {distribution} …")
            outcomes.append(run_cell(version, distribution, named, arguments or []))
            console.print(f"  {outcomes[-1].status}: {outcomes[-1].detail}", highlight=False)
    table = Table("Python", "ROS 2", "", "")
    for outcome in outcomes:
        table.add_row(outcome.python, outcome.distribution, outcome.status, outcome.detail)
    console.print(table)
    raise typer.Exit(exit_status(outcomes))


if __name__ == "__main__":
    typer.run(main)
