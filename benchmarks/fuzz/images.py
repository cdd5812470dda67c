"""Images, label maps and videos as predict and evaluate read them, mutated; and folders through the whole commands."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fuzz.case import Case

PRELOAD = ("torch", "timm", "eomt_ext_core.engine", "eomt_ext_core.cli", "eomt_ext_core.evaluation.predict")
FORBIDDEN_EVENTS = ()
_WAYS = ("photograph", "image", "labels", "image")
_VIDEO_EVERY, _FOLDER_EVERY = 6, 40  # one case of so many

Mutation = tuple[str, bytes, str | None]
"""What was done, the file, and the exit code that must come."""


def read(path: str, way: str) -> int:
    """Read a file: a photograph or video as ``predict`` does, an image or a label map as ``evaluate`` does.

    That labels have colours is no fault here.
    """
    from eomt_ext_core.errors import DatasetError
    from eomt_ext_core.images import VideoReader, kind_of, read_label_values, read_rgb

    if kind_of(Path(path)) == "video":
        with VideoReader(path) as video:
            for _ in video:
                pass
        print(video.problem() or "")
        return 1 if video.problem() else 0
    if way == "labels":
        with contextlib.suppress(DatasetError):
            read_label_values(path)
    else:
        read_rgb(path, turn=way == "photograph")
    return 0


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    chance = random.Random(seed)
    images, videos = _images(chance), _videos(folder / "videos")
    named = itertools.cycle(_MUTATIONS.items())
    for number in range(count):
        if number % _FOLDER_EVERY == _FOLDER_EVERY - 1:
            yield _folder_case(chance, folder / f"{number:04d}", images, predict=bool(number // _FOLDER_EVERY % 2))
            continue
        if number % _VIDEO_EVERY == 0:
            suffix, content = chance.choice(videos)
            name, data, expect = chance.choice([_cut_video, _flip, _scramble])(chance, content)
        else:
            suffix, content = chance.choice(images)
            name, mutate = next(named)
            name, data, expect = mutate(chance, content)
        path = folder / f"{number:04d}{suffix}"
        path.write_bytes(data)
        way = _WAYS[number % len(_WAYS)]
        yield Case(
            f"{number:04d} {suffix} {way}: {name}", path, ("benchmarks.fuzz.images:read", str(path), way), expect
        )


def _images(chance: random.Random) -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(chance.randrange(1 << 32))
    colour = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (96, 64))
    grey, clear = colour[..., 0], cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA)
    progressive, lossy = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_WEBP_QUALITY, 60]
    kinds = [
        (".jpg", colour, []), (".jpg", grey, []), (".jpg", colour, progressive), (".jpg", grey, progressive),
        (".jpg", colour, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]), (".png", colour, []), (".png", grey, []),
        (".png", clear, []), (".png", colour.astype(np.uint16) * 257, []), (".webp", colour, []),
        (".webp", colour, lossy), (".webp", clear, lossy), (".bmp", colour, []), (".bmp", grey, []),
    ]  # fmt: skip
    return [(suffix, cv2.imencode(suffix, pixels, options)[1].tobytes()) for suffix, pixels, options in kinds]


def _videos(folder: Path) -> list[tuple[str, bytes]]:
    from imageio_ffmpeg import get_ffmpeg_exe

    folder.mkdir()
    kinds = {
        "a.mp4": ("-c:v", "libx264", "-movflags", "+faststart"),
        "b.mp4": ("-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov", "-g", "5"),
        "a.avi": ("-c:v", "mjpeg"),
        "a.mkv": ("-c:v", "libx264"),
    }
    for name, options in kinds.items():
        source = (get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=96x64:r=10:d=3")
        subprocess.run([*source, *options, str(folder / name)], check=True)
    return [(Path(name).suffix, (folder / name).read_bytes()) for name in kinds]


def _folder_case(chance: random.Random, folder: Path, images: list[tuple[str, bytes]], predict: bool) -> Case:
    """Run a whole command on a partly broken set: it continues, and its exit code is not 0."""
    for name in ("images", "labels_masks"):
        (folder / name).mkdir(parents=True)
    labels = np.zeros((64, 96), np.uint8)
    labels[20:40, 30:60] = 1
    for index in range(3):
        (folder / "images" / f"{index}.png").write_bytes(chance.choice(images)[1])
        (folder / "labels_masks" / f"{index}.png").write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    broken = chance.choice([_cut, _lie_large, _other])(chance, chance.choice(images)[1])
    spoiled = "images" if predict else chance.choice(["images", "labels_masks"])
    (folder / spoiled / "1.png").write_bytes(broken[1])
    command = ("predict", str(folder / "images")) if predict else ("evaluate", str(folder), "--workers", "1")
    output = ("--checkpoint", "demo", "--output", str(folder.with_name(f"{folder.name} output")))
    return Case(f"{folder.name} {command[0]} {broken[0]}", folder, ("eomt-ext", *command, *output), "error")


def _intact(chance: random.Random, data: bytes) -> Mutation:
    return "intact, with any suffix", data + bytes(chance.randrange(9)), "success"


def _cut(chance: random.Random, data: bytes) -> Mutation:
    length = chance.randrange(len(data))
    return f"cut to {length} of {len(data)} bytes", data[:length], "error"


def _cut_video(chance: random.Random, data: bytes) -> Mutation:
    length = chance.randrange(len(data) // 10, len(data) * 8 // 10)
    return f"cut to {length} of {len(data)} bytes", data[:length], "error"


def _flip(chance: random.Random, data: bytes) -> Mutation:
    flipped, number = bytearray(data), chance.randint(1, 12)
    for _ in range(number):
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return f"{number} bits flipped", bytes(flipped), None


def _scramble(chance: random.Random, data: bytes) -> Mutation:
    scrambled = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        scrambled[chance.randrange(min(len(data), 200))] = chance.choice(
            [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
        )
    return "its header scrambled", bytes(scrambled), None


def _splice(chance: random.Random, data: bytes) -> Mutation:
    first, second = sorted(chance.sample(range(len(data)), 2))
    return "a part of it twice", data[:second] + data[first:], None


def _resize(data: bytes, height: int, width: int) -> bytes:
    """The file with another size declared."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if data.startswith(b"\xff\xd8") and marker in data:
            at = data.index(marker) + 5
            return data[:at] + struct.pack(">HH", min(height, 65_535), min(width, 65_535)) + data[at + 4 :]
    if data.startswith(b"\x89PNG"):
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<ii", width, height) + data[26:]
    if data[12:16] == b"VP8X":
        return data[:24] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + data[30:]
    if data[12:16] == b"VP8L":
        bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14 | int.from_bytes(data[21:25], "little") & 0xF << 28
        return data[:21] + bits.to_bytes(4, "little") + data[25:]
    return data[:26] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + data[30:]


def _lie_large(chance: random.Random, data: bytes) -> Mutation:
    side = 16_383 if data.startswith(b"RIFF") else chance.choice([16_000, 60_000, 65_535])
    return f"{side} pixels a side declared", _resize(data, side, side), "error"


def _lie(chance: random.Random, data: bytes) -> Mutation:
    height, width = (chance.choice([1, 63, 65, 200, 4000, 8192]) for _ in range(2))
    return f"{height} x {width} declared", _resize(data, height, width), None


def _other(chance: random.Random, data: bytes) -> Mutation:
    contents = {
        "empty": b"",
        "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "notes of macOS": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(80),
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "a GIF": b"GIF89a\1\0\1\0\0\0\0;",
        "a playlist": b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n",
        "noise": chance.randbytes(500),
    }
    name = chance.choice(list(contents))
    return name, contents[name], "error"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_bomb(chance: random.Random, _: bytes) -> Mutation:
    side, allowed = chance.choice([(8192, True), (16_384, False)])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return f"a PNG of {side} black pixels a side", data, "success" if allowed else "error"


def _jpeg_bomb(chance: random.Random, _: bytes) -> Mutation:
    flat = cv2.imencode(".jpg", np.full((8192, 8192), 9, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last, count = flat.rindex(b"\xff\xc4"), chance.choice([9, 11, 1000, 4000])
    data = flat[:-2] + flat[last:-2] * count + flat[-2:]
    return f"{count} scans more on 8192 x 8192", data, "success" if count == 9 else "error"


def _many_parts(chance: random.Random, data: bytes) -> Mutation:
    if chance.random() < 0.5:
        return "60,000 segments", b"\xff\xd8" + b"\xff\xfe\0\2" * 60_000 + b"\xff\xd9", "error"
    head = struct.pack(">IIBBBBB", 5, 5, 8, 2, 0, 0, 0)
    parts = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 800
    return (
        "800 texts of a megabyte",
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + parts + _chunk(b"IEND", b""),
        "error",
    )


def _animated(chance: random.Random, _: bytes) -> Mutation:
    if chance.random() < 0.5:
        return "an animated WebP", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(9), "error"
    head = struct.pack(">IIBBBBB", 5, 5, 8, 2, 0, 0, 0)
    parts = _chunk(b"IHDR", head) + _chunk(b"acTL", struct.pack(">II", 9999, 0)) + _chunk(b"IEND", b"")
    return "an animated PNG", b"\x89PNG\r\n\x1a\n" + parts, "error"


_MUTATIONS: dict[str, Callable[[random.Random, bytes], Mutation]] = {
    function.__name__: function
    for function in (_intact, _cut, _flip, _lie_large, _scramble, _other, _lie, _splice, _cut, _flip, _png_bomb)
} | {"_scramble 2": _scramble, "_jpeg_bomb": _jpeg_bomb, "_many_parts": _many_parts, "_animated": _animated}
