"""A calibrated tiny model with a known answer, and labelled images for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from eomt_ext_core import EoMTExt, HeadConfig, cli
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.model.checkpoint import save_model

CALIBRATION = {
    "scale": 0.5,
    "shift": -1.0,
    "threshold": 0.3,
    "target_tpr": 0.95,
    "guarantee": "pixels",
    "num_frames": 40,
    "data": "street",
}


@pytest.fixture(scope="session")
def checkpoint(tiny_model: Callable[..., EoMTExt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "street.safetensors"
    model = tiny_model(HeadConfig(16, 0.3, 8))
    model.info = {
        "class_names": ["road", "<script>x</script>", "sky", "car", "tree"],
        "calibration": CALIBRATION,
        "training": {"seed": 3, "note": "gnp.\u202etac"},
    }
    save_model(model, path, make_probe(model))
    return path


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, each with 500 anomalous pixels of 3,072; not to be changed."""
    root = tmp_path_factory.mktemp("data") / "streets"
    labels = np.zeros((48, 64), np.uint8)
    labels[10:30, 20:45] = 1
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        for part, array in (("images", noise), ("labels_masks", labels)):
            (root / part).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / part / f"{name}.png"), array)
    return root


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """Call a command; returns the result of the runner."""
    return lambda *arguments: CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def pack_of(checkpoint: Path, run: Callable[..., Any]) -> Callable[..., Any]:
    """Call ``eomt-ext evidence`` with the checkpoint; in bf16 random weights may differ by more than is allowed."""
    return lambda *arguments: run("evidence", checkpoint, "--device", "cpu", "--precision", "fp32", *arguments)


@pytest.fixture(scope="session")
def made(
    streets: Path, tmp_path_factory: pytest.TempPathFactory, pack_of: Callable[..., Any]
) -> tuple[Path, dict[str, Any]]:
    """A pack and its JSON; not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "pack"
    done = pack_of("--data", streets, "--output", folder)
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
