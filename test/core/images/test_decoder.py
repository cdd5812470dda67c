"""Files to pixels: the same checks for images and labels, under any name, and bombs that are not set off."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import DatasetError, EomtExtError, ImageError, OutputError
from eomt_ext_core.images import (
    DEFAULT_LIMITS,
    ImageLimits,
    decode_rgb,
    read_label_values,
    read_rgb,
    read_unchanged,
    write_image,
)
from eomt_ext_core.images.formats import read_header

SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (96, 64))
READERS: list[Callable[..., Any]] = [read_rgb, read_unchanged, read_label_values]


def encoded(suffix: str, pixels: Any = SMOOTH, options: Any = ()) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("read", READERS)
def test_truncated_file_is_refused_by_name(read: Callable[..., Any], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    content = encoded(suffix)
    for length in (len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ImageError, match=rf"half\.png: a \w+ image must .*, got {length} damaged bytes"):
            read(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "x.jpg is empty"),
        (b"<!DOCTYPE html><html>", "x.jpg: an image must be JPEG, PNG, WebP or BMP, got a web page"),
        (b"GIF89a", "got a GIF: save it as PNG"),
        (b"II*\0", "got a TIFF: save it as PNG"),
        (b"\0\0\0\x20ftypheic", "got a HEIF, AVIF or video file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a Git LFS pointer"),
        (b"\0\5\x16\7\0\2", "got a metadata file of macOS"),
        (b"\0" * 99, "got 99 bytes of another kind"),
    ],
)
def test_what_is_no_image_is_named(read: Callable[..., Any], content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=told):
        read(tmp_path / "x.jpg")


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_named(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, told in (
        ("none.png", "none.png does not exist"),
        ("dead.png", "dead.png is a broken link"),
        ("pipe.png", "pipe.png must be a regular file, got a pipe or a device"),
        ("", "must be a file, got a folder"),
    ):
        with pytest.raises(ImageError, match=told):
            read(tmp_path / name)
    (tmp_path / "large.png").write_bytes(encoded(".png"))
    with pytest.raises(ImageError, match=r"large\.png must have at most 100 bytes, got more"):
        read(tmp_path / "large.png", limits=ImageLimits(max_file_bytes=100))


def test_a_suffix_may_be_another_formats(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(".png"))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.jpg"), SMOOTH[..., ::-1])


def test_names_that_are_no_utf8(tmp_path: Path, odd_name: str) -> None:
    path = tmp_path / odd_name / f"{odd_name}.png"
    write_image(path, SMOOTH[..., 0])
    assert os.listdir(path.parent) == [f"{odd_name}.png"]
    for read in READERS:
        assert read(path).shape[:2] == (64, 96)
    path.write_bytes(b"broken")
    for read in READERS:
        with pytest.raises(ImageError, match=r"caf\\xe9\.png: an image must be") as caught:
            read(path)
        str(caught.value).encode("utf-8")


def test_only_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes.fromhex("011200030000000100060000") + bytes(4)  # 6: quarter turn
    jpeg = encoded(".jpg", SMOOTH[..., 0])
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert read_rgb(tmp_path / "a.jpg", turn=True).shape == (96, 64, 3)
    for read in READERS:
        assert read(tmp_path / "a.jpg").shape[:2] == (64, 96)


def test_depth_palette_and_alpha_become_rgb(tmp_path: Path) -> None:
    deep = SMOOTH.astype(np.uint16) * 256 + 130
    for pixels in (deep, np.dstack([SMOOTH, SMOOTH[..., 0]])):
        write_image(tmp_path / "a.png", pixels)
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), SMOOTH[..., ::-1])
    with pytest.raises(DatasetError, match=r"a\.png: labels must be grey, got colours"):
        read_label_values(tmp_path / "a.png")
    write_image(tmp_path / "a.png", deep)
    with pytest.raises(DatasetError, match=r"a\.png: labels must have 8 bits, got uint16"):
        read_label_values(tmp_path / "a.png")


def test_an_image_that_cannot_be_written(tmp_path: Path) -> None:
    for name, told in (("a.xyz", r"a\.xyz cannot be written as an image"), ("file/a.png", "cannot be written: ")):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match=told):
            write_image(tmp_path / name, SMOOTH)


def test_lack_of_memory_is_told_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", SMOOTH)

    def fail(*_: Any) -> None:
        raise cv2.error("OpenCV: error: (-4:Insufficient memory) Failed to allocate")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match=r"a\.png: out of memory"):
        read_rgb(tmp_path / "a.png")


def scans(jpeg: bytes) -> list[int]:
    """Where the tables of each scan begin, and the end."""
    starts, position = [], jpeg.index(b"\xff\xc4")
    while position >= 0:
        starts.append(position)
        scan = jpeg.index(b"\xff\xda", position)
        position = jpeg.find(b"\xff\xc4", scan)
    return [*starts, len(jpeg) - 2]


def many_scans(jpeg: bytes, count: int) -> bytes:
    """A grey progressive image with its last scan ``count`` times more."""
    *_, last, end = scans(jpeg)
    return jpeg[:end] + jpeg[last:end] * count + jpeg[end:]


def test_scan_bomb_is_refused_and_limit_is_decoded() -> None:
    flat = encoded(".jpg", np.full((8192, 8192), 90, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    own = read_header(flat).scan_blocks >> 20
    allowed = many_scans(flat, 16 - own)
    assert read_header(allowed).scan_blocks == DEFAULT_LIMITS.max_scan_blocks
    started = time.thread_time()
    assert decode_rgb(allowed).shape == (8192, 8192, 3)
    assert time.thread_time() - started < 3.0  # about one on a core that has nothing else to do
    for count in (17 - own, 1000):
        started = time.thread_time()
        with pytest.raises(ImageError, match="must have at most 16777216 blocks") as caught:
            decode_rgb(many_scans(flat, count))
        assert caught.value.reason == "work"
        assert time.thread_time() - started < 0.1


def test_damaged_files_give_an_image_or_an_error() -> None:
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".webp", ".bmp"):
        content = encoded(suffix)
        for _ in range(60):
            damaged = bytearray(content)
            for position in rng.integers(0, min(len(content), 400), 3):
                damaged[position] = rng.integers(256)
            try:
                pixels = decode_rgb(bytes(damaged), limits=ImageLimits(max_pixels=1 << 16))
            except EomtExtError:
                continue
            assert (pixels.ndim, pixels.dtype) == (3, np.uint8)
