"""Train the demonstration model: a small EoMT-EXT on procedural scenes, from nothing.

The network learns the known classes on scenes without obstacles, then goes on with obstacles of some families as
outliers; then it is frozen and the head learns on other scenes with obstacles of these families. It is measured on yet
other scenes, with obstacles of families that training never showed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table

from eomt_ext_core.about.record import make_record, start_record, with_record
from eomt_ext_core.config import SCORES, EngineConfig, HeadConfig, ModelConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.files import check_output_file
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SEMANTIC_CLASSES, SceneConfig
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.data.scenes import ProceduralScenes, SemanticScenes
from eomt_ext_training.data.stored.rendered import load_scenes
from eomt_ext_training.head.export import ExportBest
from eomt_ext_training.head.feature_cache import CacheSettings
from eomt_ext_training.head.module import HeadModule
from eomt_ext_training.head.training_lines import TrainingLines
from eomt_ext_training.measure import measure
from eomt_ext_training.network.training import NetworkTraining, train_from_scratch, train_further

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


def _outlier_stage(steps: int, batch_size: int, **settings: Any) -> NetworkTraining:
    return NetworkTraining(steps=steps, batch_size=batch_size, outlier_weight=10.0, **settings)


@dataclass(frozen=True)
class Plan:
    """Amounts of data and steps. At half resolution (``shrink=2``) a step costs less than a quarter."""

    class_scenes: int = 6000
    class_stages: tuple[NetworkTraining, ...] = (
        NetworkTraining(steps=3000, batch_size=16, shrink=2),
        NetworkTraining(steps=1100, batch_size=8, lr=5e-4, seed=1),
    )
    outlier_stages: tuple[tuple[int, NetworkTraining], ...] = (  # with the number of scenes
        (8000, _outlier_stage(1900, 8, lr=5e-4, warmup_steps=100, seed=2)),
        (20000, _outlier_stage(7000, 16, shrink=2, seed=3)),
        (20000, _outlier_stage(1600, 8, lr=5e-4, warmup_steps=100, seed=4)),
    )
    head_scenes: int = 4000
    head_epochs: int = 16
    pixels_per_crop: int | None = 4096  # drawn in each step; none takes all
    test_scenes: int = 200

    def quick(self) -> Plan:
        """Hardly any of everything: only that it runs."""
        return Plan(
            4,
            tuple(replace(stage, steps=1, batch_size=2) for stage in self.class_stages),
            tuple((4, replace(stage, steps=1, batch_size=2)) for _, stage in self.outlier_stages),
            head_scenes=8,
            head_epochs=1,
            test_scenes=2,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/demo/demo.safetensors"))
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/scenes"), help="folder for the cache of rendered scenes"
    )
    parser.add_argument("--network", type=Path, help="a finished network to start the head from")
    parser.add_argument("--quick", action="store_true", help="hardly any of everything: only that it runs")
    parser.add_argument("--overwrite", action="store_true", help="replace the model and the network")
    args = parser.parse_args(arguments)

    check_output_file(args.output, args.overwrite, ".safetensors")
    if args.network is None:
        check_output_file(args.output.parent / "network.safetensors", args.overwrite)
    start_record(tuple(sys.argv))
    plan = Plan().quick() if args.quick else Plan()
    families = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    network = args.network
    if network is None:
        network = args.output.parent / "network.safetensors"
        train_its_network(plan, families, args.cache, network)
    model = train_its_head(plan, network, families, args.cache, args.output.parent)

    unseen = ProceduralScenes(
        (540, 960), plan.test_scenes, TEST_SEEDS, obstacle_families=HELD_OUT_FAMILIES, rendered=args.cache
    )
    results = {
        score: {name: round(getattr(result, name), 6) for name in ("auprc", "fpr95", "auroc", "anomaly_fraction")}
        for score, result in measure(AnomalyEngine(model, EngineConfig(precision="fp32")), unseen, SCORES).items()
    }
    model.info = model.info | {
        "name": "eomt-ext-demo",
        "purpose": "demonstration and tests on procedural scenes; not for use on a vehicle",
        "class_names": list(SEMANTIC_CLASSES),
        "held_out_families": list(HELD_OUT_FAMILIES),
        "plan": asdict(plan),
        "results": results,
    }
    model.info = with_record(model.info, make_record())
    save_model(model, args.output, make_probe(model))
    Console().print(_table(results), f"saved {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def train_its_network(plan: Plan, families: tuple[str, ...], cache: Path, output: Path) -> None:
    """Train on semantic classes, then with obstacles that the features should separate from them."""
    clear = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.0)
    scenes = load_scenes(range(NETWORK_SEEDS, NETWORK_SEEDS + plan.class_scenes), clear, cache)
    train_from_scratch(MODEL, SemanticScenes(scenes), plan.class_stages, output)
    littered = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.9, obstacle_families=families)
    for count, stage in plan.outlier_stages:
        scenes = load_scenes(range(OUTLIER_SEEDS, OUTLIER_SEEDS + count), littered, cache)
        train_further(output, MODEL, SemanticScenes(scenes), stage, output)


def train_its_head(plan: Plan, network: Path, families: tuple[str, ...], cache: Path, output: Path) -> EoMTExt:
    """Train the head on scenes with obstacles of some families, as ``eomt-ext-train`` does."""

    def scenes(first_seed: int, count: int) -> ProceduralScenes:
        return ProceduralScenes(MODEL.crop_hw, count, first_seed, obstacle_families=families, rendered=cache)

    seed_everything(0)
    module = HeadModule(str(network), None, HEAD, lr=1e-3, pixels_per_crop=plan.pixels_per_crop)
    data = AnomalyData(
        [scenes(HEAD_SEEDS, plan.head_scenes)],
        [scenes(VALIDATION_SEEDS, max(8, plan.head_scenes // 20))],
        batch_size=16,
        cache=CacheSettings(folder=output / "features"),
    )
    folder = output / "head"
    keeper = ModelCheckpoint(monitor="val/auprc", mode="max", save_last=True, auto_insert_metric_name=False)
    trainer = Trainer(
        default_root_dir=folder,
        logger=CSVLogger(folder, name=""),
        callbacks=[keeper, ExportBest(), TrainingLines()],
        max_epochs=plan.head_epochs,
        check_val_every_n_epoch=max(1, plan.head_epochs // 8),
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
    with exit_on_error("demo_model"):
        main()
