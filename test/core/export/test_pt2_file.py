import json
import zipfile
from pathlib import Path

import pytest
import torch

from eomt_ext_core import CheckpointError, ConfigError, EoMTExt
from eomt_ext_core.about.exported import read_exported
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.export.check import probe_crops
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model
from eomt_ext_core.export.pt2_file import Pt2Package
from eomt_ext_core.runtimes.contents import ExportContents

CPU = torch.device("cpu")


def test_a_package_scores_as_the_engine_does(small_model: EoMTExt, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    (difference,) = export_model(small_model, path, ExportConfig(format="pt2"))
    assert difference.difference < 1e-4
    assert list(tmp_path.iterdir()) == [path]
    package = Pt2Package(path)
    assert package.device == CPU
    assert package.contents.info == small_model.info
    assert read_exported(path) == package.contents
    crops = probe_crops(small_model.config.crop_hw, 4)
    with torch.inference_mode():
        expected = TorchWindowScorer(small_model, CPU, "fp32", "none", 1)(crops, ("head",))
    torch.testing.assert_close(package(crops, ("head",)), expected, atol=1e-4, rtol=0)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"other\.pt2: cannot be loaded here"):
        Pt2Package(path)


@pytest.mark.parametrize(("kind", "device"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_package_for_another_device_is_refused_before_its_code_runs(
    kind: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    path = tmp_path / "small.pt2"
    metadata = ExportContents((64, 64), 5, ("head",), "fp32", 1, 0, {}, {}).to_metadata() | {"AOTI_DEVICE_KEY": kind}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small/archive_format", "pt2")
        archive.writestr("small/data/aotinductor/model/c.wrapper_metadata.json", json.dumps(metadata))
    with pytest.raises(ConfigError, match=rf"device must be {kind}, for which .* got {device}: choose auto, or export"):
        Pt2Package(path, device)
