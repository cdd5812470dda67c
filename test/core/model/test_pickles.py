"""Pickles and archives that ask for more than they are long."""

import io
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Make = Callable[..., Any]
SQUARE = (96, 96)
HEADS = {"backbone_overrides": {"num_heads": 2}}


def archive(path: Path, pickled: bytes, *others: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in (("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/version", b"3\n"), *others):
            file.writestr(name, content)
    return path


def storage(key: bytes, count: int) -> bytes:
    text = b"X" + struct.pack("<I", len(key)) + key
    return (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + text + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count)
        + b"tQ"
    )  # fmt: skip


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def nested_tuples(depth: int) -> bytes:
    """Pairs of pairs, each shared: as large as 2 to the depth to whoever walks through it."""
    pairs = b"".join(
        b"h" + bytes([number]) + b"h" + bytes([number]) + b"\x86q" + bytes([number + 1]) for number in range(depth)
    )
    return b"K\x01\x85q\x00" + pairs


BOMBS = {
    "a key that takes for ever to hash": b"\x80\x02}" + nested_tuples(60) + b"K\x01s.",
    "a storage that takes for ever to name": b"\x80\x02" + text(b"storage") + nested_tuples(60) + b"\x86Q.",
    "bytes by their number alone": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "bytes by their encoding": b"\x80\x02c_codecs\nencode\n" + text(b"ab" * 1000) + text(b"punycode") + b"\x86R.",
    "a storage by its size alone": b"\x80\x02ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.",
    "a tensor by its size alone": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "a list that is copied again and again": (
        b"\x80\x02ccollections\nCounter\nq\x00]q\x01(" + b"K\x01" * 30_000 + b"e\x85q\x020]("
        + b"h\x00h\x02R" * 60_000 + b"e."
    ),
    "a text that is counted again and again": (
        b"\x80\x02ccollections\nCounter\nq\x00" + text(b"x" * 300_000) + b"\x85q\x010]("
        + b"h\x00h\x01R" * 60_000 + b"e."
    ),
    "a state that is set again and again": (
        b"\x80\x02ccollections\nOrderedDict\n)R}q\x00("
        + b"".join(text(b"%d" % number) + b"N" for number in range(9000)) + b"u" + b"bh\x00" * 200_000 + b"b."
    ),
    "marks without an end": b"\x80\x02" + b"(" * 100_000 + b".",
    "brackets without an end": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}  # fmt: skip


@pytest.mark.parametrize("bomb", list(BOMBS))
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_expanding_pickle_is_refused_at_once(tmp_path: Path, bomb: str, legacy: bool, refused: Make) -> None:
    path = tmp_path / "m.bin"
    if legacy:
        buffer = io.BytesIO()
        torch.save({}, buffer, _use_new_zipfile_serialization=False)
        start, kept = buffer.getvalue().index(b"."), buffer.getvalue()
        for _ in range(2):  # after the magic number, the version and the system
            start = kept.index(b".", start + 1)
        path.write_bytes(kept[: start + 1] + BOMBS[bomb] + b"\x80\x02].")
    else:
        archive(path, BOMBS[bomb])
    started = time.process_time()
    assert refused(path, r"m\.bin: ") < 256
    assert time.process_time() - started < 10


def test_an_archive_that_expands_is_refused_before_it_does(tmp_path: Path, refused: Make) -> None:
    for path in (
        archive(tmp_path / "pickle.bin", b"\x80\x02}" + b"0" * 200_000_000, compression=zipfile.ZIP_DEFLATED),
        archive(
            tmp_path / "data.bin", b"\x80\x02}.", ("a/data/0", bytes(200_000_000)), compression=zipfile.ZIP_DEFLATED
        ),
    ):
        assert path.stat().st_size < 1_000_000
        assert refused(path, "entries of a PyTorch file must not be compressed") < 64


def test_an_archive_that_lies_is_refused(tiny_model: Make, official_state: Make, tmp_path: Path, refused: Make) -> None:
    path = tmp_path / "m.bin"
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), path)
    whole = path.read_bytes()
    directory = whole.rindex(b"PK\x01\x02")  # the last entry's: its sizes are at 20 and 24
    lying = bytearray(whole)
    lying[directory + 20 : directory + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    path.write_bytes(lying)
    refused(path, "its entries must fit into", HEADS)
    archive(path, b"\x80\x02}.", ("b/data.pkl", b"\x80\x02}."))
    refused(path, "must contain one 'data.pkl', got 2")
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, b"\x80\x02}.", ("a/version", b"4\n"))
    refused(path, "must have different names")
