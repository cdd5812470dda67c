"""One list of what an input is."""

from pathlib import Path

import pytest

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.images import is_input, kind_of, list_images


def test_visible_files_with_the_suffix_of_an_image(tmp_path: Path, odd_name: str) -> None:
    names = ["IMG.JPG", "b.jpeg", "c.png", "d.webp", "e.bmp", "f.TIF", "g.gif", f"{odd_name}.png"]
    for name in [*names, "._IMG.JPG", ".DS_Store", "Thumbs.db", "notes.txt", "video.mp4", "png"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("folder.jpg")
    (tmp_path / "dead.jpg").symlink_to("nowhere")
    assert [path.name for path in list_images(tmp_path)] == sorted([*names, "dead.jpg"])


def test_images_and_videos_are_two_things() -> None:
    for name, kind, found in (("a.MP4", "video", True), ("a.png", "image", True), (".a.mkv", "video", False)):
        assert (kind_of(Path(name)), is_input(Path(name))) == (kind, found)
    assert kind_of(Path("Thumbs.db")) is None


def test_a_folder_that_is_none_is_named(tmp_path: Path, odd_name: str) -> None:
    with pytest.raises(DatasetError, match=r"caf\\xe9 must be an existing folder"):
        list_images(tmp_path / odd_name)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file must be an existing folder"):
        list_images(tmp_path / "file")
