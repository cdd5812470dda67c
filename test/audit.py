"""The locked packages against a database of known vulnerabilities, where that can be reached: for ``make lint``."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

DATABASE = "https://api.osv.dev/v1/query"
LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
TIMEOUT_S = 10.0


def why_unreachable(database: str) -> str:
    """Ask the database about one package; the reason where it does not answer, else empty."""
    question = json.dumps({"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.3"}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(database, question), timeout=TIMEOUT_S):
            return ""
    except OSError as error:
        return str(error)


def main(
    requirements: Annotated[Path, typer.Argument(help="file with a version of each package")] = LOCK,
    database: Annotated[str, typer.Option(help="address of an OSV database")] = DATABASE,
) -> None:
    """Exit with 1 where pip-audit finds something or fails; with 0 and a word where the database cannot be reached."""
    reason = why_unreachable(database)
    if reason:
        print(f"pip-audit skipped: its database cannot be reached ({reason})")
        return
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(requirements),
        "--disable-pip",
        "--require-hashes",
    ]
    command += ["--vulnerability-service", "osv", "--osv-url", database, "--progress-spinner", "off"]
    raise typer.Exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    typer.run(main)
