"""The record of a run, stored in every result: what ran, with what, on what, and when."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eomt_ext_core.files import printable, valid_text

RECORD = "record"
EARLIER = "earlier_records"
_MOST_EARLIER = 8
_MOST_CHARACTERS = 4000
_GIT_TIMEOUT_S = 10.0
_ROOT = Path(__file__).resolve().parents[2]


def make_record(**facts: Any) -> dict[str, Any]:
    """Record this process: command line, versions, git state, machine, date of its start; and what the caller knows.

    Args:
        facts: JSON values, such as ``engines`` (what :meth:`AnomalyEngine.describe` gives), ``model`` (SHA-256 of its
            files by name), ``data_sha256``, ``scores`` and ``seeds``; those that are None are left out.
    """
    record: dict[str, Any] = valid_text(
        {**start_record(tuple(sys.argv)), **{name: value for name, value in facts.items() if value is not None}}
    )
    return record


@lru_cache(maxsize=1)
def start_record(arguments: tuple[str, ...]) -> Mapping[str, Any]:
    """Record what is known of a process at its start; a long one calls it then, as the sources may change meanwhile.

    Args:
        arguments: of the process, ``sys.argv``.
    """
    command = shlex.join([Path(arguments[0]).name, *arguments[1:]])
    return {
        "command": printable(command)[:_MOST_CHARACTERS],
        "package": {"version": _version("eomt_ext_ros"), "git": git_state(_ROOT)},
        "python": platform.python_version(),
        "torch": _version("torch"),
        "timm": _version("timm"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def with_record(info: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the ``info`` of a checkpoint with a record; those of the commands before it are kept, newest first."""
    before = info.get(EARLIER)
    earlier = [info[RECORD]] if isinstance(info.get(RECORD), Mapping) else []
    earlier += [item for item in before if isinstance(item, Mapping)] if isinstance(before, Sequence) else []
    kept = {name: value for name, value in info.items() if name not in (RECORD, EARLIER)}
    return {**kept, RECORD: dict(record), **({EARLIER: earlier[:_MOST_EARLIER]} if earlier else {})}


def git_state(root: Path) -> dict[str, Any] | None:
    """Give the commit of the repository at ``root``, and whether a tracked file differs; None if there is none.

    A repository around an installed package is not its own, and does not count.
    """
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, timeout=_GIT_TIMEOUT_S, check=True)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.decode("ascii", "replace").strip(), "changed": bool(changes.stdout.strip())}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
