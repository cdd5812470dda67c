"""Writing files so that a reader never meets half of one, and showing their names."""

from __future__ import annotations

import logging
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
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; rename it when the block ends well, else remove it.

    The temporary name keeps the suffix, since many writers choose their format by it.

    Raises:
        OutputError: for every ``OSError`` of the block or of this function: a folder that is a file, no permission, no
            room on the disk.
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
    """Say of every ``OSError`` in the block that ``path`` cannot be written.

    Raises:
        OutputError: naming the path and the reason of the system.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{printable(path)} cannot be written: {error.strerror or error}") from error


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it if they are missing.

    Raises:
        OutputError: if there is a file of that name, or the system refuses.
    """
    with writing(path):
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(f"{printable(path)} must be a folder, there is a file of that name") from error


def printable(name: str | os.PathLike[str]) -> str:
    r"""A name as people and JSON read it: text that is always valid UTF-8 and prints on one line.

    Bytes that are not UTF-8, control characters and backslashes are escaped, so that the name can be had back.

    >>> printable(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    'caf\\xe9.png'
    >>> printable("Stra\xdfe 1.png") == "Stra\xdfe 1.png"
    True
    """
    text = os.fspath(name).replace("\\", r"\\")
    return text if text.isprintable() else "".join(part if part.isprintable() else _escaped(part) for part in text)


def message_with_path(path: str | os.PathLike[str], error: Exception) -> str:
    """The message of an error, the file named in front if the message does not name it.

    >>> message_with_path("a.png", ValueError("a.png is empty")), message_with_path("a.png", ValueError("not finite"))
    ('a.png is empty', 'a.png: not finite')
    """
    text, name = str(error), printable(path)
    return text if name in text else f"{name}: {text}"


def valid_text(value: Any) -> Any:
    r"""Copy of nested dicts, lists and tuples in which all text is valid UTF-8, as JSON must be: names may not be.

    >>> valid_text({"name": [b"caf\xe9".decode("utf-8", "surrogateescape"), 1]})
    {'name': ['caf\\xe9', 1]}
    """
    if isinstance(value, Mapping):
        return {valid_text(key): valid_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [valid_text(item) for item in value]
    return _SURROGATE.sub(lambda found: _escaped(found[0]), value) if isinstance(value, str) else value


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@contextmanager
def output_folder(
    path: str | Path, overwrite: bool = False, inputs: Sequence[Path] = (), stale: Sequence[str] = ()
) -> Iterator[Path]:
    """Give a folder to write results to, so that no earlier result is lost.

    A folder that is missing or empty is given as it is. One that holds results is refused, or, with ``overwrite``,
    stays as it is until the block ends well: the block writes to a new folder in it, whose files then replace those of
    the same name, and no others. If the block raises, that new folder stays, and the log names it.

    Args:
        path: of the folder.
        overwrite: whether files may be replaced.
        inputs: what the results are made of; none may be replaced by them.
        stale: names of files about earlier results, removed if the block wrote none of that name.

    Raises:
        ConfigError: if the folder holds something and may not be overwritten, an input is in it, it is no folder, or
            cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        filled = any(not entry.name.startswith(".") for entry in path.iterdir())
        if filled and not overwrite:
            raise ConfigError(
                f"the output folder must be empty, {printable(path)} is not: choose another, or pass --overwrite to "
                "replace the results in it"
            )
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
            _LOG.warning("%s is as it was; what was written until now is in %s", printable(path), printable(new))
        elif new != path:
            new.rmdir()
        raise
    if new != path:
        _replace_files(new, path, stale)


def _replace_files(new: Path, path: Path, stale: Sequence[str]) -> None:
    """Move all files of a folder to their places in another one."""
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
    """Write tensors as a safetensors file, whole or not at all."""
    from safetensors.torch import save_file  # with torch, which few writers of files need

    with atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        parts = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(parts, temporary, metadata=None if metadata is None else dict(metadata))
        temporary.chmod(mode)  # safetensors makes files that only their owner may read
