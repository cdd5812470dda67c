"""Check of a PyTorch file before ``torch.load`` opens it: only tensors and plain values, and bounded work.

``weights_only`` prevents code from running, but not a file from demanding memory and time: compressed entries, huge
objects created from a size, a list copied a hundred thousand times. So all opcodes are checked first, without building
any object.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eomt_ext_core.errors import CheckpointError

_ZIP_START = b"PK\x03\x04"
_MOST_PICKLE_BYTES = 1 << 26
_LEGACY_PICKLES = 5  # magic number, version, system, contents, storage keys; the numbers follow
_WORK_PER_BYTE = 4

_NUMBERS = re.compile("BININT[12]?|LONG1|BINFLOAT|NONE|NEWTRUE|NEWFALSE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GLOBALS = re.compile(
    r"collections (Counter|OrderedDict)"
    r"|torch (Size|device|bfloat16|bool|float16|float32|float64|int8|int16|int32|int64|uint8)"
    r"|torch (BFloat16|Bool|Byte|Char|ComplexDouble|ComplexFloat|Double|Float|Half|Int|Long|Short)Storage"
    r"|torch\._utils _rebuild_(parameter|tensor|tensor_v2)"
)


@dataclass(eq=False, slots=True)
class _Value:
    """A placeholder of a value: whether it is a scalar, its number of parts, and the parts of a tuple."""

    scalar: bool = False
    size: int = 0
    parts: Sequence[_Value] = ()


_MARK, _SCALAR = _Value(), _Value(scalar=True)


def is_archive(path: Path) -> bool:
    """Whether a file is in PyTorch's current format, by PyTorch's own rule."""
    with path.open("rb") as file:
        return file.read(len(_ZIP_START)) == _ZIP_START


def check_archive(path: Path) -> None:
    """Check a file of PyTorch's current format.

    Raises:
        CheckpointError: if an entry is compressed or larger than the file, or its pickle breaks a rule.
        zipfile.BadZipFile: if it is not an archive.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for item in entries:
        if item.compress_type or item.file_size != item.compress_size or item.flag_bits & 1:
            raise CheckpointError(f"entries of a PyTorch file must not be compressed, {item.filename!r} is")
    if sum(item.file_size for item in entries) > size:
        raise CheckpointError(f"its entries must fit into {size} bytes: it is truncated, or not a PyTorch file")
    if len({item.filename for item in entries}) < len(entries):
        raise CheckpointError("entries of a PyTorch file must have different names")
    pickles = [item for item in entries if item.filename.partition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointError(f"a PyTorch file must contain one 'data.pkl', got {len(pickles)}")
    if pickles[0].file_size > _MOST_PICKLE_BYTES:
        raise CheckpointError(f"'data.pkl' must have at most {_MOST_PICKLE_BYTES} bytes, got {pickles[0].file_size}")
    with path.open("rb") as file:
        _check_pickle(io.BytesIO(_stored_bytes(file, pickles[0])), pickles[0].file_size)


def check_legacy(path: Path) -> None:
    """Check a file of PyTorch's format before 1.6, which consists of consecutive pickles.

    Raises:
        CheckpointError: if a pickle breaks a rule.
    """
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            start = file.tell()
            _check_pickle(file, min(_MOST_PICKLE_BYTES, path.stat().st_size - start))


def _stored_bytes(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of an entry; ``zipfile`` refuses entries without a checksum, which PyTorch can omit."""
    file.seek(entry.header_offset + 26)
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    file.seek(name + extra, io.SEEK_CUR)
    return file.read(entry.file_size)


def _check_pickle(file: IO[bytes], most_bytes: int) -> None:
    """Check a pickle up to its end.

    Raises:
        CheckpointError: if it is damaged, too long, has more than a state dict needs, or demands more work than its
            length allows.
    """
    try:
        _walk(file, most_bytes)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"not a PyTorch checkpoint, or a truncated one: {error}") from error


def _walk(file: IO[bytes], most_bytes: int) -> None:
    stack: list[_Value] = []
    memo: dict[Any, _Value] = {}
    most_work, start = 1000 + _WORK_PER_BYTE * most_bytes, file.tell()
    for opcode, argument, position in pickletools.genops(file):
        name = opcode.name
        if (position or 0) - start > most_bytes:
            raise CheckpointError(f"a pickle must have at most {most_bytes} bytes, got more")
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif _NUMBERS.fullmatch(name):
            stack.append(_SCALAR)
        elif name in ("BINUNICODE", "SHORT_BINSTRING"):
            stack.append(_Value(scalar=True, size=len(argument or "")))
        elif name == "GLOBAL":
            _check_global(str(argument))
            stack.append(_SCALAR)
        elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT"):
            stack.append(_Value())
        elif name in _TUPLES or name == "TUPLE":
            parts = _pop(stack, _TUPLES[name]) if name in _TUPLES else _pop_to_mark(stack)
            stack.append(_Value(size=len(parts), parts=parts))
        elif name in ("APPEND", "APPENDS"):
            parts = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
            _grow(stack, len(parts))
        elif name in ("SETITEM", "SETITEMS"):
            parts = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
            if not all(key.scalar for key in parts[::2]):
                raise CheckpointError("a mapping's keys must be names or numbers")
            _grow(stack, len(parts))
        elif name == "BINPERSID":
            (storage,) = _pop(stack, 1)
            if not all(part.scalar for part in storage.parts):
                raise CheckpointError("a storage must be described by names and numbers")
            stack.append(_Value())
        elif name in ("REDUCE", "BUILD"):
            target, value = _pop(stack, 2)
            most_work -= 1 + value.size
            most_work -= sum(part.size for part in value.parts) if most_work > 0 else 0
            if most_work < 0:
                raise CheckpointError("its pickle builds more than its length allows")
            stack.append(target if name == "BUILD" else _Value())
        elif name not in ("PROTO", "STOP"):
            raise CheckpointError(
                f"it must be a state dict as torch.save writes it, got another kind of pickle (opcode {name}): save "
                "the model's state_dict() with torch.save"
            )


def _check_global(name: str) -> None:
    if not _GLOBALS.fullmatch(name):
        raise CheckpointError(
            f"it holds Python objects besides tensors ({name.replace(' ', '.')}), which are never executed here. Save "
            "its 'state_dict' alone if you trust it"
        )


def _pop(stack: list[_Value], count: int) -> list[_Value]:
    popped = stack[-count:]
    if len(popped) < count or _MARK in popped:
        raise IndexError("its stack is too short")
    del stack[-count:]
    return popped


def _pop_to_mark(stack: list[_Value]) -> list[_Value]:
    popped = []
    while (value := stack.pop()) is not _MARK:
        popped.append(value)
    return popped[::-1]


def _grow(stack: list[_Value], count: int) -> None:
    container = stack[-1]
    if container.scalar or container is _MARK:
        raise IndexError("its stack is out of order")
    container.size += count
