"""What the pack says of data: where they come from."""

import shutil
from pathlib import Path

import pytest

from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.evidence.data_part import data_part, hashed


@pytest.mark.parametrize("name", ["README.txt", "LICENSE-CC-BY-4.0", "licence", "COPYING", "Notice.md"])
def test_a_statement_of_origin_is_found_by_how_its_name_begins(streets: Path, tmp_path: Path, name: str) -> None:
    root = shutil.copytree(streets, tmp_path / "streets")
    (root / name).write_text("taken by us")
    (root / "README files").mkdir()
    (dataset,) = open_datasets(root)
    found = hashed(dataset, "evaluation", ())
    assert [file.path.name for file in found.statements] == [name]
    assert data_part([found], ["evaluation"]).missing == ()


def test_a_statement_that_cannot_be_read_is_named(streets: Path, tmp_path: Path) -> None:
    root = shutil.copytree(streets, tmp_path / "streets")
    (root / "LICENSE").symlink_to("nowhere")
    (dataset,) = open_datasets(root)
    found = hashed(dataset, "evaluation", ())
    assert found.left_out == (f"{root}/LICENSE is missing",)
    assert len(found.files) == 4
