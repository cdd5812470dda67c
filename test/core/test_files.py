import errno
import os
from pathlib import Path

import pytest

from eomt_ext_core.errors import ConfigError, OutputError
from eomt_ext_core.files import atomic_write, check_output_file, make_folder, output_folder, printable, save_tensors


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "picture.png"
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == target.parent
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_text("old")

    def fail_half_way() -> None:
        with atomic_write(str(target)) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_output_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_text("old")
    for path, says in (
        ("there.onnx", "there.onnx exists: choose another, or pass --overwrite to replace it"),
        (".", "must end in .onnx or .pt2"),
        ("model.bin", "must end in .onnx or .pt2, got '.*model.bin'"),
        ("there.onnx/deep/new.onnx", "cannot be created, .*there.onnx is no folder that you may write to"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_output_file(tmp_path / path, False, ".onnx", ".pt2")
    with pytest.raises(ConfigError, match="--plot must be a file, got the folder"):
        check_output_file(tmp_path, True, option="--plot")
    check_output_file(tmp_path / "there.onnx", True, ".onnx")
    check_output_file(tmp_path / "deep" / "new.onnx", False, ".onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"report\.json cannot be written: No such file"), atomic_write(target):
        pass
    assert target.read_text() == "old"


def test_what_the_system_refuses_is_told_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    name = os.fsdecode(b"caf\xe9.json")
    with (
        pytest.raises(OutputError, match=r"file/caf\\xe9\.json cannot be written: "),
        atomic_write(tmp_path / "file" / name),
    ):
        pass

    def fill_the_disk() -> None:
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        fill_the_disk()
    with pytest.raises(OutputError, match="file must be a folder, got a file"):
        make_folder(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_printable_names_are_one_line_and_unique() -> None:
    names = [
        b"a b.png",
        b"a\xe9",
        b"a\\xe9",
        "aé".encode(),
        b"a\n",
        b"a\x1b[2J",
        "a\u202eb".encode(),
        "a\U0001f600".encode(),
    ]
    texts = [printable(os.fsdecode(name)) for name in names]
    assert len(set(texts)) == len(names)
    assert all(text.isprintable() and text.encode("utf-8") for text in texts)
    assert (texts[0], texts[3]) == ("a b.png", "aé")


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_tensors_are_for_whom_other_files_are(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open

    path = tmp_path / "deep" / "tensors.safetensors"
    values = torch.arange(6.0).view(2, 3).requires_grad_()
    save_tensors(path, {"turned": values.t()}, {"key": "value"})
    assert path.stat().st_mode & 0o777 == 0o640
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"key": "value"}
        assert file.get_tensor("turned").equal(values.detach().t())
    save_tensors(path, {"other": values})
    with safe_open(path, framework="pt") as file:
        assert file.metadata() is None
        assert list(file.keys()) == ["other"]
    assert list(path.parent.iterdir()) == [path]


# -- folders of results -----------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_new_or_empty_folder_is_written_to_directly(tmp_path: Path) -> None:
    write(tmp_path / "empty", **{".gitkeep": ""})
    for name in ("deep/new", "empty"):
        with output_folder(tmp_path / name) as folder:
            assert folder == tmp_path / name
            write(folder, metrics="1")
        assert (tmp_path / name / "metrics").read_text() == "1"


def test_filled_folder_is_refused_unchanged(tmp_path: Path) -> None:
    write(tmp_path, notes="mine")
    with (
        pytest.raises(ConfigError, match=r"must be empty, .* is not: choose another, or pass --overwrite"),
        output_folder(tmp_path),
    ):
        pass
    assert contents(tmp_path) == {"notes": "mine"}


def test_results_replace_files_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, metrics="old", notes="mine", problems="old")
    write(tmp_path / "overlay", a="old", b="old")
    with output_folder(tmp_path, overwrite=True, stale=["problems"]) as folder:
        write(folder, metrics="new")
        write(folder / "overlay", a="new", c="new")
        assert (tmp_path / "metrics").read_text() == "old"
    assert contents(tmp_path) == {
        "metrics": "new", "notes": "mine", "overlay/a": "new", "overlay/b": "old", "overlay/c": "new"
    }  # fmt: skip


def test_a_run_that_breaks_off_leaves_the_last_results(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, metrics="old")

    def break_off(written: bool) -> None:
        with output_folder(tmp_path, overwrite=True) as folder:
            if written:
                write(folder, metrics="half")
            raise KeyboardInterrupt

    for written in (False, True):
        with pytest.raises(KeyboardInterrupt):
            break_off(written)
    (left,) = tmp_path.glob("unfinished-*")
    assert contents(left) == {"metrics": "half"}
    assert (tmp_path / "metrics").read_text() == "old"
    assert str(left) in caplog.text


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "out" / "images", a="image")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for out in ("out", "out/images", "link"):
        with (
            pytest.raises(ConfigError, match="must not contain an input"),
            output_folder(tmp_path / out, overwrite=True, inputs=[tmp_path / "out" / "images"]),
        ):
            pass


def test_what_is_in_the_way_stays_and_so_do_the_results(tmp_path: Path) -> None:
    write(tmp_path / "metrics", mine="1")
    with (
        pytest.raises(ConfigError, match="is in the way of a result: the results are in"),
        output_folder(tmp_path, overwrite=True) as folder,
    ):
        write(folder, metrics="new", report="new")
    assert contents(tmp_path / "metrics") == {"mine": "1"}
    assert not (tmp_path / "report").exists()
    (left,) = tmp_path.glob("unfinished-*")
    assert contents(left) == {"metrics": "new", "report": "new"}


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, file="")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="cannot be used"), output_folder(path):
            pass
