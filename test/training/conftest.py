"""A tiny random network as a file, and the command line of a tiny training run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

CROP_HW = (64, 96)


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EoMT without a head, whose outputs vary from pixel to pixel."""
    import torch

    from eomt_ext_core import EoMTExt, ModelConfig, save_model

    torch.manual_seed(3)
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1.0}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", CROP_HW, num_queries=6, num_classes=5, num_blocks=1,
                         backbone_overrides=overrides)  # fmt: skip
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    model = EoMTExt(config)
    model.info = {
        "class_names": ["a", "b", "c", "d", "e"],
        "calibration": {"scale": 2.0, "shift": 1.0, "threshold": 0.3},
    }
    save_model(model, path)
    return path


@pytest.fixture(scope="session")
def fit(tiny_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run ``eomt-ext-train`` on procedural scenes, with logs in a folder; options as on the command line."""
    template = str(Path(__file__).with_name("tiny.yaml"))
    features = tmp_path_factory.mktemp("features")

    def run(folder: Path, *options: str, checkpoint: Path = tiny_network, subcommand: str = "fit") -> Any:
        from eomt_ext_training.head import cli

        settings = {
            "--trainer.default_root_dir": folder,
            "--data.cache.folder": features,
            "--model.checkpoint": checkpoint,
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["eomt-ext-train"])  # Lightning warns of arguments from two sides
            pairs = [str(item) for pair in settings.items() for item in pair]
            return cli.run([subcommand, "-c", template, *pairs, *options])

    return run


@pytest.fixture
def train(fit: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The same with logs in the test's own folder."""
    return partial(fit, tmp_path)


@pytest.fixture
def frozen_batch() -> Callable[..., Any]:
    """Random frozen outputs and labels of two crops, in float32."""
    import torch

    from eomt_ext_core import Prediction

    def make(seed: int = 0, feature_dim: int = 12) -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(seed)
        shapes = (2, 6, 16, 24), (2, 6, 6), (2, feature_dim, 4, 6)
        prediction = Prediction(*(2 * torch.randn(shape, generator=generator) for shape in shapes))
        labels = torch.tensor([0, 0, 1, 255], dtype=torch.uint8)[torch.randint(4, (2, *CROP_HW), generator=generator)]
        return prediction, labels

    return make
