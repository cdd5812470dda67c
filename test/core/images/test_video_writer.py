import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import ConfigError, OutputError
from eomt_ext_core.images import VideoReader, VideoWriter

pytest.importorskip("imageio_ffmpeg")


def _frames(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    ramp = np.broadcast_to(np.linspace(20, 200, size_hw[1], dtype=np.uint8)[None, :, None], (*size_hw, 3))
    return [np.roll(ramp, 4 * index, axis=1).copy() for index in range(count)]


def test_every_frame_comes_back_nearly_as_it_was(tmp_path: Path) -> None:
    path, frames = tmp_path / "video.mp4", _frames(7)
    with VideoWriter(path, rate_hz=10) as video:
        for frame in frames:
            video.write(frame)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    read = [capture.read() for _ in range(8)]
    assert [alive for alive, _ in read] == [True] * 7 + [False]
    for frame, (_, image_bgr) in zip(frames, read, strict=False):
        assert np.abs(frame.astype(int) - image_bgr[..., ::-1]).mean() < 6


def test_an_odd_row_and_column_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, rate_hz=5) as video:
        video.write(_frames(1, (49, 65))[0])
    image = cv2.VideoCapture(str(path)).read()[1]
    assert image.shape == (48, 64, 3)


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "video.mp4", rate_hz=5) as video:
        video.write(_frames(1)[0])
        with pytest.raises(ValueError, match=r"\(48, 64\), got \(32, 64\)"):
            video.write(_frames(1, (32, 64))[0])


def test_a_name_may_be_anything_that_the_file_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [os.fsdecode(b"caf\xe9.mp4"), "rtmp:a.mp4", "-y.mp4", "%03d.mp4", "a\nb.mp4"]
    for name in names:
        with VideoWriter(name, rate_hz=5) as video:
            video.write(_frames(1)[0])
        with VideoReader(name) as read:
            assert [frame.shape for frame in read] == [(48, 64, 3)]
    assert sorted(os.listdir()) == sorted(names)


def test_what_ffmpeg_cannot_write_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "full.mp4"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"full\.mp4 cannot be written: "), VideoWriter(path, rate_hz=5) as video:
        video.write(_frames(1)[0])


def test_without_ffmpeg_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with (
        pytest.raises(ConfigError, match="install the extra 'bags'"),
        VideoWriter(tmp_path / "a.mp4", rate_hz=5) as video,
    ):
        video.write(_frames(1)[0])
