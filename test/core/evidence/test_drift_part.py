"""What the pack says of drift: the file's own test over the images of the data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eomt_ext_core.config import EngineConfig
from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.errors import InferenceError
from eomt_ext_core.evidence.drift_part import drift_part
from eomt_ext_core.files import sha256_of
from eomt_ext_core.normality.drift import DriftReference
from eomt_ext_core.normality.normal_file import save_normality
from eomt_ext_core.normality.normality import Normality
from eomt_ext_core.normality.patch_distance import PatchDistance


def normal_file(path: Path, checkpoint: Path, strangeness: float | None) -> Path:
    drift = None if strangeness is None else DriftReference((strangeness,) * 20)
    distance = PatchDistance(torch.eye(32, 4), torch.zeros(1, 4))
    origin = {"checkpoint_sha256": sha256_of(checkpoint)}
    save_normality(Normality(distance, {}, origin, {"drives": ["monday"]}, drift), path)
    return path


@pytest.mark.parametrize(("strangeness", "gain"), [(-1.0, 0.8 + 0.2 / (1 - 0.005 ** (1 / 20))), (1e6, 0.8)])
def test_the_evidence_is_that_of_the_images(
    strangeness: float, gain: float, checkpoint: Path, streets: Path, tmp_path: Path
) -> None:
    path = normal_file(tmp_path / "normal.safetensors", checkpoint, strangeness)
    engine = AnomalyEngine.load(checkpoint, EngineConfig("cpu", precision="fp32"), normality=path)
    part = drift_part(engine, path, open_datasets(streets))
    facts = {name: fact.value for name, fact in part.facts.items()}
    # Half of the stake is bet from the first image on, a sixth from the second, and a third is left.
    assert facts["evidence of another drive"] == pytest.approx((gain / 2 + 1 / 6) * gain + 1 / 3)
    assert (facts["images watched"], facts["reported as another drive"], facts["drives"]) == (2, False, ["monday"])
    assert facts["reported from"] == 200
    assert part.missing == ()


def test_a_file_that_watches_no_drift_is_said_to(checkpoint: Path, streets: Path, tmp_path: Path) -> None:
    path = normal_file(tmp_path / "normal.safetensors", checkpoint, None)
    engine = AnomalyEngine.load(checkpoint, EngineConfig("cpu", precision="fp32"), normality=path)
    (missing,) = drift_part(engine, path, open_datasets(streets)).missing
    assert "watches no drift" in missing.what


def test_images_that_cannot_be_used_are_left_out_and_named(
    checkpoint: Path, streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = normal_file(tmp_path / "normal.safetensors", checkpoint, 1e6)
    engine = AnomalyEngine.load(checkpoint, EngineConfig("cpu", precision="fp32"), normality=path)
    distances = iter([InferenceError("not finite"), np.ones((48, 64), np.float32)])

    def next_one(_: Any) -> Any:
        found = next(distances)
        if isinstance(found, Exception):
            raise found
        return [found]

    monkeypatch.setattr(engine, "distances", next_one)
    part = drift_part(engine, path, open_datasets(streets))
    assert part.facts["images watched"].value == 1
    assert [line.split("images/")[1] for line in part.left_out] == ["a.png: not finite"]
    assert "1 images were not compared" in part.missing[0].what
