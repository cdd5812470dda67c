"""Videos: every frame of whole ones without a word, and how many of how many of those that are cut short."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images import ImageLimits, VideoReader

SHARED = Path(__file__).resolve().parents[4] / "shared"
SOURCE = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=4")  # 100 frames
FASTSTART = ("-movflags", "+faststart")

WHOLE = {
    "a.mp4": ("-c:v", "libx264", "-bf", "3"),
    "faststart.mp4": ("-c:v", "libx264", *FASTSTART),
    "fragments.mp4": ("-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov", "-g", "20"),
    "a.mov": ("-c:v", "libx264"),
    "a.avi": ("-c:v", "mjpeg"),
    "a.mkv": ("-c:v", "libx264"),
    "a.webm": ("-c:v", "libvpx"),
}


def read(path: Path) -> tuple[int, VideoReader]:
    with VideoReader(path) as video:
        return sum(1 for _ in video), video


@pytest.mark.parametrize("name", WHOLE)
def test_whole_and_cut(name: str, ffmpeg: Callable[..., Path]) -> None:
    path = ffmpeg(*SOURCE, *WHOLE[name], name)
    count, video = read(path)
    assert (count, video.rate_hz, video.problem()) == (100, 25, None)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    if name in ("a.mp4", "a.mov"):  # what the frames are is said at the end
        with pytest.raises(ImageError, match=f"{name} cannot be decoded as a video"):
            VideoReader(path)
        return
    count, video = read(path)
    assert 10 < count < 90
    problem = video.problem()
    assert problem is not None
    assert f"{name} is truncated: only {count} of " in problem
    assert re.search(" of (about )?(an unknown number of|100) frames could be read, at least [1-9]", problem)


def test_frames_are_rgb(ffmpeg: Callable[..., Path]) -> None:
    path = ffmpeg("-f", "lavfi", "-i", "color=c=red:s=64x48:r=5:d=1", "-c:v", "ffv1", "-pix_fmt", "bgr0", "red.mkv")
    with VideoReader(path) as video:
        first = next(iter(video))
    assert (first.shape, first.dtype) == ((48, 64, 3), np.uint8)
    assert first[20, 20].tolist() == pytest.approx([254, 0, 0], abs=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-ss", "1.5", "-i", "whole.mp4", "-c", "copy", "trimmed.mp4"),
        ("-ss", "1.5", "-t", "1", "-i", "whole.mp4", "-c", "copy", "both.mp4"),
        (*SOURCE, "-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr", "-c:v", "mjpeg", "left_out.avi"),
        (*SOURCE, "-f", "lavfi", "-i", "sine=d=9", "-c:v", "libx264", "-c:a", "aac", "longer_sound.mp4"),
        (*SOURCE, "-c:v", "libx264", "-f", "matroska", "-live", "1", "live.mkv"),
        (*SOURCE, "-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov", "-g", "20", "fragments.mp4"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_odd_but_whole_videos_are_no_false_alarm(arguments: tuple[str, ...], ffmpeg: Callable[..., Path]) -> None:
    ffmpeg(*SOURCE, "-c:v", "libx264", "-g", "30", "whole.mp4")
    count, video = read(ffmpeg(*arguments))
    assert count > 20
    assert video.problem() is None


def test_pictures_that_are_zeroed_amid_a_whole_file_are_missed(ffmpeg: Callable[..., Path]) -> None:
    path = ffmpeg(*SOURCE, "-c:v", "mjpeg", "holes.avi")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    count, video = read(path)
    assert count < 98
    assert video.problem() == f"{path} is damaged: only {count} of 100 frames could be read"


def test_names_that_are_no_utf8_or_mean_something_to_ffmpeg(ffmpeg: Callable[..., Path], odd_name: str) -> None:
    path = ffmpeg(*SOURCE, "-c:v", "libx264", "a.mp4")
    for name in (f"{odd_name}.mp4", "img_%03d.mp4", "concat:a.mp4"):
        assert read(path.rename(path.with_name(name)))[0] == 100
        path = path.with_name(name)


def test_what_is_no_video_is_named(tmp_path: Path, ffmpeg: Callable[..., Path], odd_name: str) -> None:
    (tmp_path / f"{odd_name}.mp4").write_bytes(b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(ImageError, match=r"caf\\xe9\.mp4: a video must be MP4, AVI, Matroska, got 32 bytes"):
        VideoReader(tmp_path / f"{odd_name}.mp4")
    (tmp_path / "empty.avi").touch()
    with pytest.raises(ImageError, match=r"empty\.avi: a video must be"):
        VideoReader(tmp_path / "empty.avi")
    with pytest.raises(ImageError, match="must be a file, got a folder"):
        VideoReader(tmp_path)
    sound = ffmpeg("-f", "lavfi", "-i", "sine=d=1", "sound.m4v")
    with pytest.raises(ImageError, match=r"sound\.m4v cannot be decoded as a video"):
        VideoReader(sound)


def test_too_large_frames_are_refused_undecoded(ffmpeg: Callable[..., Path]) -> None:
    path = ffmpeg(*SOURCE, "-c:v", "libx264", "a.mp4")
    with pytest.raises(
        ImageError, match=r"a\.mp4: frames must have between 1 and 3000 pixels, got height 48 and width"
    ):
        VideoReader(path, ImageLimits(max_video_pixels=3000))


@pytest.mark.parametrize(("name", "count"), [("cut.avi", 8), ("cut.mkv", 13)])
def test_cut_videos_as_people_have_them(name: str, count: int) -> None:
    path = SHARED / "cases" / "cut_video" / name
    if not path.is_file():
        pytest.skip("no folder shared/cases beside the checkout")
    found, video = read(path)
    assert found == count
    assert f"{count} of about 40 frames" in str(video.problem())


def test_a_video_of_a_real_camera_is_whole() -> None:
    path = SHARED / "road_frames" / "solidWhiteRight.mp4"
    if not path.is_file():
        pytest.skip("no folder shared/road_frames beside the checkout")
    count, video = read(path)
    assert (count, video.problem()) == (221, None)
