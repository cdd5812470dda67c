"""Train the demonstration model: a small EoMT-EXT on procedural scenes, from nothing.

The network learns the known classes on scenes without obstacles; then it is frozen and the head learns on scenes with
obstacles of some families. It is measured on other scenes, with obstacles of families that training never showed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from eomt_ext_core.config import SCORES, EngineConfig, HeadConfig, ModelConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.evaluation import PixelMetrics
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SEMANTIC_CLASSES, SceneConfig
from rich.console import Console
from rich.table import Table

from eomt_ext_training.head_training import HeadTraining, frozen_outputs, train_head
from eomt_ext_training.network_training import NetworkTraining, train_network
from eomt_ext_training.scene_cache import SceneSet, load_scenes

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
NETWORK_SEEDS, HEAD_SEEDS, TEST_SEEDS = 1_000_000, 2_000_000, 3_000_000


def main() -> None:
    """Train, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/demo/demo.safetensors"))
    parser.add_argument("--cache", type=Path, default=Path("runs/scenes"), help="where rendered scenes are kept")
    parser.add_argument("--network", type=Path, help="a trained network to start the head from")
    parser.add_argument("--network-scenes", type=int, default=6000)
    parser.add_argument("--head-scenes", type=int, default=2000)
    parser.add_argument("--test-scenes", type=int, default=200)
    parser.add_argument("--coarse-steps", type=int, default=4000, help="network steps at half resolution")
    parser.add_argument("--fine-steps", type=int, default=2000, help="network steps at full resolution")
    parser.add_argument("--head-steps", type=int, default=4000)
    args = parser.parse_args()

    known = tuple(family for family in OBSTACLE_FAMILIES if family not in HELD_OUT_FAMILIES)
    clear = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.0)
    littered = SceneConfig(size_hw=MODEL.crop_hw, obstacle_probability=0.9, obstacle_families=known)
    unseen = SceneConfig(size_hw=(540, 960), obstacle_probability=0.9, obstacle_families=HELD_OUT_FAMILIES)

    torch.manual_seed(0)
    model = EoMTExt(MODEL, HEAD)
    if args.network is not None:
        model.network.load_state_dict(load_model(args.network).network.state_dict())
    else:
        network_scenes = load_scenes(range(NETWORK_SEEDS, NETWORK_SEEDS + args.network_scenes), clear, args.cache)
        _train_coarse_then_fine(model.network, network_scenes, args)
    head_scenes = load_scenes(range(HEAD_SEEDS, HEAD_SEEDS + args.head_scenes), littered, args.cache)
    outputs = frozen_outputs(model, head_scenes)
    train_head(model, outputs, np.asarray(head_scenes.labels), HeadTraining(steps=args.head_steps, lr=1e-3))

    test_scenes = load_scenes(range(TEST_SEEDS, TEST_SEEDS + args.test_scenes), unseen, args.cache)
    results = measure(model, test_scenes)
    model.info = {
        "name": "eomt-ext-demo",
        "purpose": "demonstration and tests on procedural scenes; not for use on a vehicle",
        "class_names": list(SEMANTIC_CLASSES),
        "held_out_families": list(HELD_OUT_FAMILIES),
        "training": {key: value for key, value in vars(args).items() if isinstance(value, int)},
        "results": results,
    }
    save_model(model, args.output)
    Console().print(_table(results), f"saved {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def measure(model: EoMTExt, scenes: SceneSet) -> dict[str, dict[str, float]]:
    """AuPRC, FPR95 and AUROC of every score on labelled scenes."""
    results = {}
    for score in SCORES:
        engine, metrics = AnomalyEngine(model, EngineConfig(score=score)), PixelMetrics()
        for image, labels in zip(scenes.images_rgb, scenes.labels, strict=True):
            metrics.update(engine.infer(image).probability, np.asarray(labels))
        result = metrics.compute()
        results[score] = {name: round(float(getattr(result, name)), 4) for name in ("auprc", "fpr95", "auroc")}
        results[score]["anomaly_share"] = round(result.anomaly_share, 6)
    return results


def _train_coarse_then_fine(network: EoMT, scenes: SceneSet, args: argparse.Namespace) -> None:
    """Train at half resolution first, where a step costs less than a quarter, then at full resolution."""
    height, width = MODEL.crop_hw
    half = EoMTExt(replace(MODEL, crop_hw=(height // 2, width // 2)))
    for block in half.network.encoder.backbone.blocks:  # DINOv2's 1e-5 is for training with a teacher
        torch.nn.init.constant_(block.ls1.gamma, 0.5)
        torch.nn.init.constant_(block.ls2.gamma, 0.5)
    coarse_path = args.output.with_name("network-coarse.safetensors")
    train_network(half.network, scenes.halved(), NetworkTraining(steps=args.coarse_steps, batch_size=16))
    save_model(half, coarse_path)
    network.load_state_dict(load_model(coarse_path, MODEL).network.state_dict())  # resamples the position embedding
    train_network(network, scenes, NetworkTraining(steps=args.fine_steps, batch_size=8, lr=5e-4, seed=1))
    whole = EoMTExt(MODEL)
    whole.network.load_state_dict(network.state_dict())
    save_model(whole, args.output.with_name("network.safetensors"))


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table(title="unseen scenes, obstacle families never trained on")
    for column in ("score", "AuPRC", "FPR95", "AUROC"):
        table.add_column(column)
    for score, row in results.items():
        table.add_row(score, *(f"{row[name]:.3f}" for name in ("auprc", "fpr95", "auroc")))
    return table


if __name__ == "__main__":
    main()
