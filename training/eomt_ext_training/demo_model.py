"""Train the demonstration model: a small EoMT-EXT on procedural scenes, from nothing.

The network learns the known classes on scenes without obstacles, then goes on with obstacles of some families as
outliers; then it is frozen and the head learns on other scenes with obstacles of these families. It is measured on yet
other scenes, with obstacles of families that training never showed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table

from eomt_ext_core.config import SCORES, HeadConfig, ModelConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SEMANTIC_CLASSES, SceneConfig
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.data.rendered import load_scenes
from eomt_ext_training.data.scenes import ProceduralScenes, SemanticScenes
from eomt_ext_training.export import ExportBest
from eomt_ext_training.feature_cache import CacheSettings
from eomt_ext_training.head_module import HeadModule
from eomt_ext_training.measure import measure
from eomt_ext_training.network_training import NetworkTraining, train_from_scratch, train_network

MODEL = ModelConfig(
    backbone="vit_small_patch14_reg4_dinov2",
    crop_hw=(288, 512),
    num_queries=len(SEMANTIC_CLASSES),
    num_classes=len(SEMANTIC_CLASSES),
    num_blocks=3,
    backbone_overrides={"embed_dim": 192, "depth": 6, "num_heads": 3},
)
HEAD = HeadConfig(hidden_dim=64, feature_proj_dim=32)
HELD_OUT_FAMILIES = ("animal", "tyre", "furniture")
# Seeds of scenes: each part has its own range.
NETWORK_SEEDS, OUTLIER_SEEDS, HEAD_SEEDS, VALIDATION_SEEDS, TEST_SEEDS = (
    1_000_000, 1_500_000, 2_000_000, 2_900_000, 3_000_000
)  # fmt: skip


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/demo/demo.safetensors"))
    parser.add_argument("--cache", type=Path, default=Path("runs/scenes"), help="where rendered scenes are kept")
    parser.add_argument("--known-network", type=Path, help="a network that knows the classes, to go on from")
    parser.add_argument("--network", type=Path, help="a finished network to start the head from")
    parser.add_argument("--network-scenes", type=int, default=6000)
    parser.add_argument("--outlier-scenes", type=int, default=8000)
    parser.add_argument("--head-scenes", type=int, default=2000)
    parser.add_argument("--test-scenes", type=int, default=200)
    parser.add_argument("--coarse-steps", type=int, default=3000, help="network steps at half resolution")
    parser.add_argument("--fine-steps", type=int, default=1100, help="network steps at full resolution")
    parser.add_argument("--outlier-steps", type=int, default=1900, help="network steps with outliers")
    parser.add_argument("--head-steps", type=int, default=4000)
    parser.add_argument("--pixels-per-crop", type=int, default=4096, help="pixels drawn in each head step; 0 takes all")
    args = parser.parse_args()

    known = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    network = args.network
    if network is None:
        network = args.output.parent / "network.safetensors"
        expose_to_outliers(args.known_network or teach_classes(args), known, args, network)
    model = train_head(network, known, args)

    unseen = ProceduralScenes(
        (540, 960), args.test_scenes, TEST_SEEDS, obstacle_families=HELD_OUT_FAMILIES, rendered=args.cache
    )
    results = {
        score: {name: round(getattr(result, name), 6) for name in ("auprc", "fpr95", "auroc", "anomaly_share")}
        for score, result in measure(AnomalyEngine(model), unseen, SCORES).items()
    }
    model.info = model.info | {
        "name": "eomt-ext-demo",
        "purpose": "demonstration and tests on procedural scenes; not for use on a vehicle",
        "class_names": list(SEMANTIC_CLASSES),
        "held_out_families": list(HELD_OUT_FAMILIES),
        "settings": {key: value for key, value in vars(args).items() if isinstance(value, int)},
        "results": results,
    }
    save_model(model, args.output)
    Console().print(_table(results), f"saved {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def teach_classes(args: argparse.Namespace) -> Path:
    """Train the network on the known classes alone."""
    clear = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.0)
    scenes = load_scenes(range(NETWORK_SEEDS, NETWORK_SEEDS + args.network_scenes), clear, args.cache)
    # At half resolution a step costs less than a quarter.
    coarse = NetworkTraining(steps=args.coarse_steps, batch_size=16, shrink=2)
    fine = NetworkTraining(steps=args.fine_steps, batch_size=8, lr=5e-4, seed=1)
    output: Path = args.output.parent / "known-network.safetensors"
    train_from_scratch(MODEL, SemanticScenes(scenes), (coarse, fine), output)
    return output


def expose_to_outliers(known_network: Path, families: tuple[str, ...], args: argparse.Namespace, output: Path) -> None:
    """Go on with obstacles of some families in the scenes, which the features are to tell from the known classes."""
    littered = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.9, obstacle_families=families)
    scenes = load_scenes(range(OUTLIER_SEEDS, OUTLIER_SEEDS + args.outlier_scenes), littered, args.cache)
    model = EoMTExt(MODEL)
    model.network.load_state_dict(load_model(known_network).network.state_dict())
    exposure = NetworkTraining(
        steps=args.outlier_steps, batch_size=8, lr=5e-4, warmup_steps=100, seed=2, outlier_weight=10.0
    )
    train_network(model.network, SemanticScenes(scenes), exposure)
    save_model(model, output)


def train_head(network: Path, families: tuple[str, ...], args: argparse.Namespace) -> EoMTExt:
    """Train the head on scenes with obstacles of some families, as ``eomt-ext-train`` does."""

    def scenes(first_seed: int, count: int) -> ProceduralScenes:
        return ProceduralScenes(MODEL.crop_hw, count, first_seed, obstacle_families=families, rendered=args.cache)

    seed_everything(0)
    module = HeadModule(str(network), None, HEAD, lr=1e-3, pixels_per_crop=args.pixels_per_crop or None)
    data = AnomalyData(
        [scenes(HEAD_SEEDS, args.head_scenes)],
        [scenes(VALIDATION_SEEDS, max(8, args.head_scenes // 20))],
        batch_size=16,
        cache=CacheSettings(folder=args.output.parent / "features"),
    )
    folder = args.output.parent / "head"
    epochs = max(1, args.head_steps * 16 // args.head_scenes)
    keeper = ModelCheckpoint(monitor="val/auprc", mode="max", save_last=True, auto_insert_metric_name=False)
    trainer = Trainer(
        default_root_dir=folder,
        logger=CSVLogger(folder, name=""),
        callbacks=[keeper, ExportBest()],
        max_epochs=epochs,
        check_val_every_n_epoch=max(1, epochs // 8),
        num_sanity_val_steps=0,
        accelerator="cpu",
    )
    trainer.fit(module, data)
    return load_model(Path(str(trainer.log_dir)) / "model.safetensors")


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table(title="unseen scenes, obstacle families never trained on")
    for column in ("score", "AuPRC", "FPR95", "AUROC"):
        table.add_column(column)
    for score, row in results.items():
        table.add_row(score, *(f"{row[name]:.3f}" for name in ("auprc", "fpr95", "auroc")))
    return table


if __name__ == "__main__":
    main()
