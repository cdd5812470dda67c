"""The tests that need a GPU, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
_MARK = "mark.gpu"


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    yield _run(setting, "not compile")


def measure_compiled(setting: Setting) -> Iterator[dict[str, Any]]:
    """Those that compile the network take minutes."""
    yield _run(setting, "compile")


def files() -> list[Path]:
    """List the files of tests that need a GPU, as others may need what is not installed; none of the node's."""
    return [path for path in sorted((ROOT / "test/core").rglob("test_*.py")) if _MARK in path.read_text("utf-8")]


def _run(setting: Setting, which: str) -> dict[str, Any]:
    names = [str(path.relative_to(ROOT)) for path in files()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", which, "-p", "no:cacheprovider", *names]
    if setting.quick:
        command.append("--collect-only")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'training'}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return {
        "exit": done.returncode,
        "outcome": lines[-1] if lines else "",
        "failed": [line for line in lines if re.match(r"(FAILED|ERROR) ", line)],
        "output_tail": lines[-80:] if done.returncode else [],
        "error_tail": done.stderr.splitlines()[-20:] if done.returncode else [],
    }
