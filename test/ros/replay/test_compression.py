"""Decompression in pieces: never more memory than asked for, however the frames were made."""

import io
import os

import lz4.frame
import pytest

from eomt_ext_ros.bags.compression import DamagedFrameError, inflate, inflate_all, start_lz4, start_zstd, zstd


@pytest.mark.parametrize(("start", "pack"), [(start_zstd, zstd.compress), (start_lz4, lz4.frame.compress)])
@pytest.mark.parametrize("data", [b"", b"a", bytes(3 << 20), os.urandom(3 << 20)])
def test_frames_are_decompressed_one_after_the_other(start, pack, data):
    whole = pack(data) + pack(data)
    assert inflate_all(whole, start, 1 << 24, lambda size: None) == (2 * data, "")
    content, problem = inflate_all(whole[:-1], start, 1 << 24, lambda size: None)
    assert (2 * data).startswith(content)
    assert problem == "compressed data are truncated"
    assert "are damaged" in inflate_all(pack(data) + b"no frame", start, 1 << 24, lambda size: None)[1]
    assert max(map(len, inflate(io.BytesIO(whole).read, start, lambda size: None)), default=0) <= 1 << 20


def test_more_than_the_most_is_not_kept():
    content, problem = inflate_all(zstd.compress(bytes(10 << 20)), start_zstd, 5 << 20, lambda size: None)
    assert len(content) == 5 << 20
    assert problem == f"compressed data contain more than {5 << 20} bytes"


@pytest.mark.parametrize("pack", [zstd.compress, lz4.frame.compress])
def test_a_chain_of_empty_frames_has_its_price(pack):
    spent = []
    start = start_zstd if pack is zstd.compress else start_lz4
    assert list(inflate(io.BytesIO(pack(b"") * 1000).read, start, spent.append)) == [b""] * 1000
    assert sum(spent) >= 1000 << 15


def test_damage_comes_after_what_was_before_it():
    pieces = inflate(io.BytesIO(zstd.compress(b"first") + b"\xff" * 20).read, start_zstd, lambda size: None)
    assert next(pieces) == b"first"
    with pytest.raises(DamagedFrameError):
        list(pieces)
