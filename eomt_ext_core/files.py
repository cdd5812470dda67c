"""Atomic writing of files, output folders, and printable file names."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eomt_ext_core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path, and rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, by which many writers choose the format. It is removed if the block fails.

    Raises:
        OutputError: for any ``OSError`` of the block or of this function: a folder that is a file, no permission, a
            full disk.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Convert every ``OSError`` in the block to an ``OutputError`` on ``path``.

    Raises:
        OutputError: naming the path and the reason of the system.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{printable(path)} cannot be written: {error.strerror or error}") from error


def make_folder(path: str | Path) -> None:
    """Create a folder and its parents if they are missing.

    Raises:
        OutputError: if there is a file with that name, or the system refuses.
    """
    with writing(path):
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(f"{printable(path)} must be a folder, got a file") from error


def cache_folder(name: str) -> Path:
    """Return the path of a folder in the user's cache; it may not exist yet.

    Raises:
        RuntimeError: if the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "eomt_ext" / name


def printable(name: str | os.PathLike[str]) -> str:
    r"""Convert a file name to valid UTF-8 on one line, for messages and JSON.

    Bytes that are not UTF-8, control characters and backslashes are escaped, so that the name can be restored.

    >>> printable(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    'caf\\xe9.png'
    >>> printable("Stra\xdfe 1.png") == "Stra\xdfe 1.png"
    True
    """
    text = os.fspath(name).replace("\\", r"\\")
    return text if text.isprintable() else "".join(part if part.isprintable() else _escaped(part) for part in text)


def expanded(path: str | Path) -> Path:
    """Replace a leading ``~`` by the home that it names; a path stays as it is if it names none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def message_with_path(path: str | os.PathLike[str], error: Exception) -> str:
    """Return the message of an error, with the file name in front unless the message contains it.

    >>> message_with_path("a.png", ValueError("a.png is empty")), message_with_path("a.png", ValueError("not finite"))
    ('a.png is empty', 'a.png: not finite')
    """
    text, name = str(error), printable(path)
    return text if name in text else f"{name}: {text}"


def valid_text(value: Any) -> Any:
    r"""Copy nested dicts, lists and tuples with all text converted to valid UTF-8 for JSON.

    >>> valid_text({"name": [b"caf\xe9".decode("utf-8", "surrogateescape"), 1]})
    {'name': ['caf\\xe9', 1]}
    """
    if isinstance(value, Mapping):
        return {valid_text(key): valid_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid_text(item) for item in value]
    return _SURROGATE.sub(lambda found: _escaped(found[0]), value) if isinstance(value, str) else value


def without_nan(value: Any) -> Any:
    """Copy nested dicts, lists and tuples with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's encoding of a byte that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def check_output_file(path: Path, overwrite: bool, *suffixes: str, option: str = "--output") -> None:
    """Check before any work that a command may write a file.

    Args:
        path: of the file.
        overwrite: whether it may be replaced.
        suffixes: it must end in one of these; any will do if there are none.
        option: that gave the path, for messages.

    Raises:
        ConfigError: if it has another suffix, is a folder, is there and may not be replaced, or cannot be created.
    """
    name = printable(path)
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(f"{option} must end in {' or '.join(suffixes)}, got {name!r}")
    if path.is_dir():
        raise ConfigError(f"{option} must be a file, got the folder {name}")
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{option} must be a new file, {name} exists: choose another, or pass --overwrite to replace it"
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ConfigError(f"{option} {name} cannot be created, {printable(above)} is no folder that you may write to")


@contextmanager
def output_folder(
    path: str | Path, overwrite: bool = False, inputs: Sequence[Path] = (), stale: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield a folder for results, without risk for earlier results.

    A missing or empty folder is used directly. A folder with results is refused, or, with ``overwrite``, does not
    change until the block succeeds: the block writes to a new folder inside, and its files then replace those with the
    same name. If the block raises, the new folder is kept, and the log names it.

    Args:
        path: of the folder.
        overwrite: whether files may be replaced.
        inputs: files and folders that must not be replaced.
        stale: names of files about earlier results, removed unless the block wrote them.

    Raises:
        ConfigError: if the folder is not empty and may not be overwritten, contains an input, is not a folder, or
            cannot be created.
    """
    path = Path(path)
    filled = check_output_folder(path, overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        for source in inputs if filled else ():
            if path.resolve() in (source.resolve(), *source.resolve().parents):
                raise ConfigError(
                    f"the output folder must not contain an input, got {printable(source)}: choose another --output"
                )
        new = Path(tempfile.mkdtemp(prefix="unfinished-", dir=path)) if filled else path
    except OSError as error:
        raise ConfigError(f"the output folder {printable(path)} cannot be used: {error.strerror or error}") from error
    try:
        yield new
    except BaseException:
        if new != path and any(new.iterdir()):
            _LOG.warning("%s is unchanged; the results so far are in %s", printable(path), printable(new))
        elif new != path:
            new.rmdir()
        raise
    if new != path:
        _replace_files(new, path, stale)


def check_output_folder(path: Path, overwrite: bool) -> bool:
    """Check before any work that a command may write results into a folder.

    Returns:
        whether it holds files.

    Raises:
        ConfigError: if it is not empty and may not be overwritten, is not a folder, or cannot be read.
    """
    try:
        filled = path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir())
    except OSError as error:
        raise ConfigError(f"the output folder {printable(path)} cannot be used: {error.strerror or error}") from error
    if filled and not overwrite:
        raise ConfigError(
            f"the output folder must be empty, {printable(path)} is not: choose another, or pass --overwrite to "
            "replace the results in it"
        )
    return filled


def _replace_files(new: Path, path: Path, stale: Sequence[str]) -> None:
    """Move all files of a folder to the same places in another folder."""
    files = [file.relative_to(new) for file in sorted(new.rglob("*")) if not file.is_dir() or file.is_symlink()]
    blocked = [path / file for file in files if (path / file).is_dir()]
    blocked += [path / part for file in files for part in file.parents if (path / part).is_file()]
    if blocked:
        raise ConfigError(f"{printable(blocked[0])} is in the way of a result: the results are in {printable(new)}")
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / file, path / file)
    for name in stale:
        if Path(name) not in files:
            (path / name).unlink(missing_ok=True)
    shutil.rmtree(new)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file atomically."""
    from safetensors.torch import save_file  # imports torch, which few callers of this module need

    with atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        parts = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(parts, temporary, metadata=None if metadata is None else dict(metadata))
        temporary.chmod(mode)  # safetensors creates files that only the owner can read
