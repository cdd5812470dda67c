"""The list of hashes is that of sha256sum, for any name, and a list from a stranger is only read."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evidence.hashes import LIST, HashedFile, changes, write_list
from eomt_ext_core.files import sha256_of

NAMES = [b"plain.png", b"with space.png", b"back\\slash", b"new\nline", b"return\rcar", b"caf\xe9", b"\\n", b" *x"]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_bytes(bytes([number]))
    (tmp_path / "outside").write_bytes(b"x")
    write_list(folder, [HashedFile.of(tmp_path / "outside")])
    return folder


def test_names_of_all_kinds_are_found_again(pack: Path) -> None:
    assert changes(pack) == (len(NAMES) + 1, [])
    (pack / "new\nline").write_bytes(b"other")
    (pack.parent / "outside").unlink()
    assert changes(pack)[1] == [f"{pack.parent.resolve() / 'outside'}: missing", "new\\u000aline: differs"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_reads_the_list(pack: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", LIST]
    assert subprocess.run(command, cwd=pack).returncode == 0
    (pack / os.fsdecode(b"caf\xe9")).write_bytes(b"other")
    assert subprocess.run(command, cwd=pack, capture_output=True).returncode == 1


def test_a_pack_can_be_moved(pack: Path) -> None:
    moved = pack.rename(pack.with_name("moved"))
    assert changes(moved)[1] == []


@pytest.mark.parametrize("content", [b"", b"x" * 64 + b"  a\n", b"<!DOCTYPE html>\n"])
def test_what_must_be_listed_and_what_is_no_list(pack: Path, content: bytes) -> None:
    (pack / LIST).write_bytes(content)
    if content:
        with pytest.raises(ConfigError, match="is no evidence pack"):
            changes(pack)
    else:
        assert changes(pack, least=["evidence.json"]) == (0, ["evidence.json: not in the list"])


def test_a_line_hides_no_other_of_the_same_file(pack: Path) -> None:
    """sha256sum --check compares every line, and fails for such a list."""
    good = sha256_of(pack / "plain.png")
    (pack / LIST).write_text(f"{'0' * 64}  plain.png\n{good}  plain.png\n")
    with pytest.raises(ConfigError, match=r"must list a file once, plain\.png is there twice"):
        changes(pack)


def test_a_return_ends_no_line(pack: Path) -> None:
    good = sha256_of(pack / "plain.png")
    (pack / LIST).write_bytes(f"{good}  plain.png\r{good}  plain.png\n".encode())
    assert changes(pack) == (1, [f"plain.png\\u000d{good}  plain.png: missing"])


def test_hidden_files_are_none_of_a_pack(pack: Path) -> None:
    (pack / ".git").mkdir()
    for name in (".DS_Store", ".git/index"):
        (pack / name).write_bytes(b"x")
    write_list(pack, [])
    (pack / ".git" / "index").write_bytes(b"y")
    (pack / ".DS_Store").unlink()
    assert changes(pack) == (len(NAMES), [])


def test_what_is_no_regular_file_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, told in (("pipe", "no regular file"), (".", "no regular file"), ("link", "missing")):
        with pytest.raises(ConfigError, match=told):
            HashedFile.of(tmp_path / name)


def test_only_regular_files_are_read(pack: Path) -> None:
    os.mkfifo(pack / "pipe")
    (pack / LIST).write_bytes(b"0" * 64 + b"  pipe\n" + b"0" * 64 + b"  ../pack\n")
    assert changes(pack)[1] == ["pipe: no regular file", "../pack: no regular file"]
