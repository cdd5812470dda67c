"""Check of an ONNX file before onnxruntime opens it: only internal data and standard operators.

Tensors can refer to other files, which onnxruntime before 1.24 reads anywhere on the disk; operators of other domains
can name files too. Only tags are read here (protobuf's wire format, and the field numbers of ``onnx.proto``).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from eomt_ext_core.errors import CheckpointError

_MOST_DEPTH = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The messages that lead to tensors and nodes: field number to the kind of message in it.
_INNER: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_NODE_DOMAIN, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 7, 13, 14
_METADATA_ENTRY = 14
_STANDARD = (b"", b"ai.onnx")


def check_onnx(path: Path) -> None:
    """Check an ONNX file.

    Raises:
        CheckpointError: if it is not an ONNX file, refers to another file, or has operators other than ONNX's own.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise CheckpointError("not an ONNX file: it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_message(data, 0, len(data), "model", 0)


def onnx_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file that :func:`check_onnx` let pass; what is not UTF-8 is left out.

    Raises:
        CheckpointError: if an entry is damaged.
    """
    found: dict[str, str] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, end in _texts_and_messages(data, 0, len(data)):
            if number == _METADATA_ENTRY:
                parts = {inner: data[first:last] for inner, first, last in _texts_and_messages(data, start, end)}
                with suppress(UnicodeDecodeError):
                    found[parts.get(1, b"").decode()] = parts.get(2, b"").decode()
    return found


def _texts_and_messages(data: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give the number, start and end of each field of a message that has a length."""
    while position < end:
        tag, position = _read_varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, position = _read_varint(data, position, end)
        elif wire_type == _BYTES:
            length, start = _read_varint(data, position, end)
            position = start + length
            if position > end:
                raise CheckpointError("not an ONNX file, or a truncated one")
            yield number, start, position
        else:
            position += 8 if wire_type == _FIXED64 else 4


def _check_message(data: mmap.mmap, position: int, end: int, kind: str, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise CheckpointError(f"not an ONNX file: nested more than {_MOST_DEPTH} deep")
    while position < end:
        tag, position = _read_varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        start = position
        if wire_type == _VARINT:
            value, position = _read_varint(data, position, end)
            if kind == "tensor" and number == _TENSOR_LOCATION and value:
                raise CheckpointError("it refers to another file: an export holds all its numbers itself")
        elif wire_type == _BYTES:
            length, start = _read_varint(data, position, end)
            position = start + length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise CheckpointError(f"not an ONNX file: wire type {wire_type}")
        if position > end:
            raise CheckpointError("not an ONNX file, or a truncated one")
        if wire_type != _BYTES:
            continue
        if kind == "tensor" and number == _TENSOR_EXTERNAL:
            raise CheckpointError("it refers to another file: an export holds all its numbers itself")
        if kind == "node" and number == _NODE_DOMAIN and data[start:position] not in _STANDARD:
            raise CheckpointError(f"its operators must be ONNX's own, got some of {data[start:position][:80]!r}")
        if number in _INNER[kind]:
            _check_message(data, start, position, _INNER[kind][number], depth + 1)


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise CheckpointError("not an ONNX file, or a truncated one")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise CheckpointError("not an ONNX file: a number of more than 64 bits")
