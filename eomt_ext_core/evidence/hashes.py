"""The list of hashes of a pack, ``files.sha256``: in the format of ``sha256sum``, which can check it too."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import atomic_write, printable, sha256_of

LIST = "files.sha256"
_MOST_BYTES = 256 << 20
_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_ESCAPED = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


@dataclass(frozen=True)
class HashedFile:
    """A file as it was when the pack was made."""

    path: Path
    sha256: str
    num_bytes: int

    @classmethod
    def of(cls, path: Path) -> HashedFile:
        """Read a file.

        Raises:
            ConfigError: if it is missing, no regular file, or cannot be read.
        """
        try:
            if not path.is_file():  # a pipe would be waited for
                raise ConfigError(f"{printable(path)} {'is no regular file' if path.exists() else 'is missing'}")
            whole = path.resolve(strict=True)
            return cls(whole, sha256_of(whole), whole.stat().st_size)
        except OSError as error:
            raise ConfigError(f"{printable(path)} cannot be read: {error.strerror or error}") from error


def digest_of(files: Iterable[HashedFile]) -> str:
    """Give the SHA-256 of the sorted hashes of files: the same for the same contents, wherever they lie."""
    return hashlib.sha256("\n".join(sorted(file.sha256 for file in files)).encode()).hexdigest()


def write_list(folder: Path, outside: Iterable[HashedFile]) -> None:
    """Write the list of a pack: its own files by their names in it, others by their absolute paths.

    Hidden files, such as those of Git or of a file manager, are none of a pack.
    """
    listed = {os.fsencode(file.path): file.sha256 for file in outside}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and path.name != LIST and not is_hidden:
            listed[os.fsencode(name)] = sha256_of(path)
    with atomic_write(folder / LIST) as temporary:
        temporary.write_bytes(b"".join(_line(listed[name], name) for name in sorted(listed)))


def changes(folder: Path, least: Iterable[str] = ()) -> tuple[int, list[str]]:
    """Compare the files of a list with what they are now.

    Args:
        folder: of a pack.
        least: names of files that a pack must list.

    Returns:
        how many are listed, and a line for each that is missing or differs.

    Raises:
        ConfigError: if the folder holds no such list.
    """
    path = folder / LIST
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it must have at most {_MOST_BYTES} bytes")
        lines = [_parsed(line) for line in path.read_bytes().split(b"\n") if line]
        listed = dict(lines)
        if len(listed) < len(lines):
            twice = next(name for name, number in Counter(name for name, _ in lines).items() if number > 1)
            raise ValueError(f"it must list a file once, {printable(twice)} is there twice")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{printable(folder)} is no evidence pack, its {LIST}: {reason}") from error
    found = [f"{name}: not in the list" for name in least if name not in listed]
    for name, sha256 in listed.items():
        problem = _problem(folder / name, sha256)
        found += [f"{printable(name)}: {problem}"] if problem else []
    return len(listed), found


def _problem(path: Path, sha256: str) -> str:
    try:
        if not path.exists():
            return "missing"
        if not path.is_file():
            return "no regular file"
        return "" if sha256_of(path) == sha256 else "differs"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _line(sha256: str, name: bytes) -> bytes:
    escaped = name
    for sign, text in _ESCAPES:
        escaped = escaped.replace(sign, text)
    return (b"" if escaped == name else b"\\") + sha256.encode() + b"  " + escaped + b"\n"


def _parsed(line: bytes) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"a line must be a SHA-256 and a file, got {line[:80]!r}")
    is_escaped, sha256, name = found.groups()
    if is_escaped:
        name = re.sub(rb"\\[\\nr]", lambda part: _ESCAPED[part[0]], name)
    return os.fsdecode(name), sha256.decode()
