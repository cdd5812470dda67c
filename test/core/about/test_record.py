"""The record of a run: what is in it, and that results carry it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eomt_ext_core import EoMTExt, HeadConfig, load_model, save_model
from eomt_ext_core.about.file_facts import facts_of
from eomt_ext_core.about.record import git_state, make_record, start_record, with_record
from eomt_ext_core.cli import app
from eomt_ext_core.files import sha256_of


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@x.invalid", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_git_state_tells_the_commit_and_changes(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None, "a repository around an installed package is not its own"
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "One")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "changed": False}
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == {"commit": commit, "changed": True}


def test_a_record_tells_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/eomt-ext", "evaluate", "my frames"])
    record = make_record(precision="bf16", seeds=None)
    assert record["command"] == "eomt-ext evaluate 'my frames'"
    assert record["precision"] == "bf16"
    assert "seeds" not in record
    assert record["torch"].startswith("2.")
    assert record["date"].endswith("Z")
    json.dumps(record)


def test_a_record_tells_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start_record(("eomt-ext", "evaluate"))
    monkeypatch.setattr("sys.argv", ["eomt-ext", "evaluate"])
    monkeypatch.setattr("eomt_ext_core.about.record.git_state", lambda root: {"commit": "later"})
    assert make_record()["package"]["git"] != {"commit": "later"}


def test_records_before_are_kept_newest_first_and_not_without_end() -> None:
    info: dict[str, object] = {"name": "x"}
    for number in range(12):
        info = with_record(info, {"number": number})
    assert info["name"] == "x"
    assert info["record"] == {"number": 11}
    assert info["earlier_records"] == [{"number": number} for number in range(10, 2, -1)]


def test_what_convert_writes_says_what_it_was_made_of(
    tiny_model: Callable[..., EoMTExt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), source)
    monkeypatch.setattr("sys.argv", ["eomt-ext", "convert"])
    done = CliRunner().invoke(app, ["convert", str(source), str(target)])
    assert done.exit_code == 0, done.output
    assert load_model(target).info["record"]["model"] == {"checkpoint_sha256": sha256_of(source)}
    assert facts_of(str(target))["record"]["command"] == "eomt-ext convert"
