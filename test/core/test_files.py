import os
from pathlib import Path

import pytest

from eomt_ext_core.errors import OutputError
from eomt_ext_core.files import save_tensors, whole_file


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "picture.png"
    with whole_file(target) as temporary:
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
        with whole_file(str(target)) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"report\.json cannot be written: No such file"), whole_file(target):
        pass
    assert target.read_text() == "old"


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
